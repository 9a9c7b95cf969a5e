"""`sluice replay`: the events of a range come again, all of them and no others."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from redis.asyncio import Redis

from common.backpressure import Room
from common.collection_filter import CollectionFilter
from common.events import IdentityEvent
from common.streams import StreamWriter
from ingester.frames import events_of
from ingester.framing import FrameResult
from ingester.upstream import Upstream
from sluice.network import RecordedNetwork
from sluice.replay import Copy
from tests.commands import Ended, sluice
from tests.recorded_network import StartNetwork

STREAM = "firehose_live"


def results(served: RecordedNetwork) -> list[FrameResult]:
    is_wanted = CollectionFilter(("app.bsky.*", "chat.bsky.*"))
    return [result for frame in served.recording.frames if (result := events_of(frame, is_wanted)).seq]


async def replayed(served: RecordedNetwork, redis_url: str, folder: Path, *options: str) -> Ended:
    relay = ("--relay", served.websocket_url)
    host = served.websocket_url.removeprefix("ws://")
    environ = {"REDIS_URL": redis_url, "PLC_URL": served.url, "OUTBOUND_ALLOW": host}
    return await sluice("replay", *options, *relay, folder=folder, environ=environ)


async def seqs(redis: Redis) -> list[int]:
    return [json.loads(fields[b"event"])["seq"] for _, fields in await redis.xrange(STREAM)]


async def test_a_range_of_cursors_comes_again_whole(
    network: StartNetwork, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    served = await network("basic")
    frames = results(served)
    begin, end = frames[10].seq, frames[30].seq
    ended = await replayed(served, redis_url, tmp_path, "--from", str(begin), "--to", str(end))
    assert ended.code == 0, ended.error
    assert await seqs(redis) == [frame.seq for frame in frames for _ in frame.events if begin < frame.seq <= end]
    others = [key for key in await redis.keys("*") if key != STREAM.encode()]
    assert all(key.startswith(b"did:") for key in others), "nothing is left but what was found out about DIDs"


async def test_without_an_end_it_goes_to_where_the_ingester_is(
    network: StartNetwork, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    served = await network("basic")
    frames = results(served)
    host = served.websocket_url.removeprefix("ws://")
    refused = await replayed(served, redis_url, tmp_path, "--from", "0")
    assert (refused.code, "say how far to go with --to" in refused.error) == (2, True)
    await redis.set(f"{STREAM}:cursor:{host}", frames[20].seq)
    ended = await replayed(served, redis_url, tmp_path, "--from", "0")
    assert ended.code == 0, ended.error
    assert await seqs(redis) == [frame.seq for frame in frames[:21] for _ in frame.events]
    assert await redis.get(f"{STREAM}:cursor:{host}") == str(frames[20].seq).encode()


async def test_a_time_means_everything_from_then_on(
    network: StartNetwork, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    served = await network("basic")
    frames = results(served)
    begin, end = frames[25], frames[-1].seq
    host = served.websocket_url.removeprefix("ws://")
    await redis.set(f"{STREAM}:cursor:{host}", end)
    ended = await replayed(served, redis_url, tmp_path, "--from", begin.time)
    assert ended.code == 0, ended.error
    first = next(frame.seq for frame in frames if frame.time >= begin.time)
    assert await seqs(redis) == [frame.seq for frame in frames for _ in frame.events if frame.seq >= first]


async def test_an_interrupted_replay_goes_on_where_it_was(
    network: StartNetwork, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    served = await network("basic")
    frames = results(served)
    host, middle, end = served.websocket_url.removeprefix("ws://"), frames[30].seq, frames[-1].seq
    await redis.set(f"{STREAM}:replay:{host}:0-{end}", middle)
    ended = await replayed(served, redis_url, tmp_path, "--from", "0", "--to", str(end))
    assert ended.code == 0, ended.error
    assert await seqs(redis) == [frame.seq for frame in frames for _ in frame.events if frame.seq > middle]


async def test_an_end_that_the_relay_has_no_event_for_is_reached_by_the_next_one(redis: Redis) -> None:
    writer = StreamWriter(redis, STREAM, "event", Room(redis, STREAM, 1000))
    copy = Copy(redis, writer, Upstream("relay.test", True, 443), 0, 5)
    results = [
        FrameResult(kind="#identity", seq=seq, events=(IdentityEvent(time="", did="", seq=seq),)) for seq in (4, 7)
    ]

    class Relay:
        async def after(self, cursor: int, take: Callable[[FrameResult], Awaitable[bool]]) -> float:
            assert [await take(result) for result in results] == [False, True]
            return -1.0

    assert await copy.run(Relay()) == 0
    assert await seqs(redis) == [4]


async def test_what_is_no_cursor_and_no_time_is_refused(redis_url: str, tmp_path: Path, network: StartNetwork) -> None:
    served = await network("basic")
    for options in (("--from", "yesterday", "--to", "9"), ("--from", "9", "--to", "3")):
        ended = await replayed(served, redis_url, tmp_path, *options)
        assert ended.code == 2
