"""Several relays tell of one network, each in its order and by its numbers: what happened once is written once."""

import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial

import pytest
from redis.asyncio import Redis

from common.repo_states import Counts, RepoStates
from sluice.network import RecordedNetwork
from sluice.recording import Recording
from tests.backfilling import environment, output, work_off
from tests.ingesting import Event, StartIngester, host, on_the_stream, recorded, until_cursor, until_metric
from tests.relays import did_of, inserted, retold, with_frames
from tests.tellers import jobs
from tests.waiting import until

KILLS = int(os.environ.get("KILLS", "4"))
OpenRecording = Callable[[str], Recording]
Serve = Callable[..., Awaitable[RecordedNetwork]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def serving(recording: Recording, pace: float | None = None) -> RecordedNetwork:
            return await stack.enter_async_context(RecordedNetwork(recording, pace=pace))

        yield serving


def by_repo(events: Iterable[Event]) -> dict[str, list[Event]]:
    """What was told of each repo, in its order, without the numbers."""
    found: dict[str, list[Event]] = defaultdict(list)
    for _, kind, did, path, cid in events:
        found[did].append((kind, path, cid))
    return found


async def check_told_once(redis: Redis, recording: Recording) -> None:
    assert by_repo(await on_the_stream(redis)) == by_repo(recorded(recording.frames))
    assert await jobs(redis) == []
    assert (await RepoStates(redis).counts()).desynchronised == 0


@pytest.mark.parametrize("name", ["load-tiny", "full"])
async def test_what_two_relays_tell_is_written_once(
    redis: Redis, recording: OpenRecording, serve: Serve, ingester: StartIngester, name: str
) -> None:
    one = await serve(recording(name), pace=1000)
    two = await serve(retold(recording(name), seed=5), pace=1300)
    daemon = await ingester(one, two, INGESTER_BATCH_SIZE="40")
    await until_cursor(redis, one)
    await until_cursor(redis, two)
    await check_told_once(redis, one.recording)
    metrics = await daemon.metrics()
    twice = recorded(one.recording.frames, restated=True)
    written = len(await on_the_stream(redis))
    assert metrics["dropped_total reason=duplicate"] == 2 * len(twice) - written
    assert (metrics["stream_events_total"], metrics.unaccounted) == (written, 0)


async def test_two_ingesters_with_a_relay_each_write_it_once(
    redis: Redis, recording: OpenRecording, serve: Serve, ingester: StartIngester
) -> None:
    one = await serve(recording("load-tiny"), pace=1000)
    two = await serve(retold(recording("load-tiny"), seed=6), pace=1000)
    daemons = [await ingester(one), await ingester(two, PLC_URL=one.url, OUTBOUND_ALLOW=host(one))]
    await until_cursor(redis, one)
    await until_cursor(redis, two)
    await check_told_once(redis, one.recording)
    metrics = [await daemon.metrics() for daemon in daemons]
    assert all(found["dropped_total reason=duplicate"] > 0 for found in metrics)
    assert [found.unaccounted for found in metrics] == [0, 0]


async def test_while_one_relay_stalls_the_other_goes_on_and_nothing_comes_twice(
    redis: Redis, recording: OpenRecording, serve: Serve, ingester: StartIngester
) -> None:
    one = await serve(recording("load-tiny"), pace=1000)
    two = await serve(retold(recording("load-tiny"), seed=7), pace=1000)
    daemon = await ingester(one, two, INGESTER_IDLE_SECONDS="0.5")
    await until_cursor(redis, one, 300)
    one.firehose.pause()
    await until_cursor(redis, two)
    assert by_repo(await on_the_stream(redis)) == by_repo(recorded(one.recording.frames))
    await until_metric(daemon, "errors_by_reason_total reason=idle", lambda ends: ends >= 2)
    one.firehose.resume()
    await until_cursor(redis, one)
    await check_told_once(redis, one.recording)


async def test_a_relay_that_is_added_begins_at_its_oldest_and_repeats_nothing(
    redis: Redis, recording: OpenRecording, serve: Serve, ingester: StartIngester
) -> None:
    one, two = await serve(recording("full")), await serve(retold(recording("full"), seed=8))
    daemon = await ingester(one)
    await until_cursor(redis, one)
    await daemon.end()
    daemon = await ingester(one, two)
    await until_cursor(redis, two)
    await check_told_once(redis, one.recording)
    assert (await daemon.metrics())["stream_events_total"] == 0


async def test_what_a_relay_loses_is_fetched_from_the_repos(
    redis: Redis, redis_url: str, recording: OpenRecording, serve: Serve, ingester: StartIngester
) -> None:
    """One frame of every fifty is lost on the way. Whoever was hit is fetched once, and then in step."""
    frames = list(recording("load-tiny").frames)
    lost = [frame for frame in frames[40::50] if b"#commit" in frame[:20]]
    kept = [frame for frame in frames if frame not in lost]
    relay = await serve(with_frames(recording("load-tiny"), kept))
    daemon = await ingester(relay)
    await until_cursor(redis, relay)
    queued = await jobs(redis)
    assert sorted(queued) == sorted((did, "broken_chain") for did in {did_of(frame) for frame in lost})
    metrics = await until_metric(daemon, "repos_desynchronised", lambda repos: repos == len(queued))
    assert metrics["resyncs_queued_total reason=broken_chain"] == metrics["chain_total result=desynchronised"]
    assert (len(await on_the_stream(redis)), metrics.unaccounted) == (len(recorded(kept)), 0)
    await work_off(redis, environment(redis_url, relay.url))
    assert all(emitted.whole for emitted in (await output(redis)).values())
    away = {repo.did for repo in relay.recording.repos if not repo.active}
    assert await RepoStates(redis).counts() == Counts(repos=50, desynchronised=len(away & dict(queued).keys()))


async def test_an_account_that_leaves_and_comes_back_is_dropped_meanwhile_and_fetched_then(
    redis: Redis, redis_url: str, recording: OpenRecording, serve: Serve, ingester: StartIngester
) -> None:
    frames = list(recording("load-tiny").frames)
    busiest, _ = Counter(did_of(frame) for frame in frames[600:1800]).most_common(1)[0]
    left, back = {"active": False, "status": "deactivated"}, {"active": True}
    at = {600: left | {"time": "2026-11-20T10:00:00Z"}, 1200: back | {"time": "2026-11-20T11:00:00Z"}}
    told = inserted(
        recording("load-tiny"), {index: ("#account", {"did": busiest} | body) for index, body in at.items()}
    )
    one, two = await serve(told), await serve(retold(told, seed=9))
    daemon = await ingester(one)
    await until_cursor(redis, one)
    meanwhile = [event for event in recorded(told.frames) if event[2] == busiest and 601 < event[0] < 1202]
    assert len(meanwhile) > 5
    assert await on_the_stream(redis) == [event for event in recorded(told.frames) if event not in meanwhile]
    assert await jobs(redis) == [(busiest, "inactive"), (busiest, "reactivated")]
    metrics = await daemon.metrics()
    assert (metrics["dropped_total reason=inactive_account"], metrics.unaccounted) == (len(meanwhile), 0)
    await work_off(redis, environment(redis_url, one.url))
    assert (await output(redis))[busiest].whole
    await daemon.end()
    before = await on_the_stream(redis)
    await ingester(one, two)
    await until_cursor(redis, two)
    assert await on_the_stream(redis) == before
    assert (await RepoStates(redis).counts()).desynchronised == 0


@pytest.mark.timeout(60 + 6 * KILLS)
async def test_killed_at_any_moment_it_writes_every_event_of_two_relays_once(
    redis: Redis,
    recording: OpenRecording,
    serve: Serve,
    ingester: StartIngester,
    record_property: Callable[[str, object], None],
) -> None:
    """`make kills` does it a hundred times. A moment is a number of frames that were sent, so it may be any."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    record_property("seed", seed)
    chance, whole = random.Random(seed), recording("load-tiny")
    frames_a_life = len(whole.frames) / KILLS
    pace = frames_a_life / 0.3
    relays = [await serve(whole, pace), await serve(retold(whole, seed), pace)]
    for _ in range(KILLS):
        sent = relays[0].firehose.sent + chance.uniform(0, 2 * frames_a_life)
        daemon = await ingester(*relays, INGESTER_BATCH_SIZE="25", INGESTER_BATCH_TIMEOUT_MS="20")
        await until(partial(has_come_to, redis, relays[0], sent))
        assert await daemon.end(signal.SIGKILL) == -signal.SIGKILL
    for relay in relays:
        relay.firehose.pace = None
    await ingester(*relays)
    for relay in relays:
        await until_cursor(redis, relay)
    await check_told_once(redis, whole)


async def has_come_to(redis: Redis, relay: RecordedNetwork, sent: float) -> bool:
    """Or to the end, after which nothing more is sent."""
    is_at_end = await redis.get(f"firehose_live:cursor:{host(relay)}") == str(relay.firehose.last_seq).encode()
    return is_at_end or relay.firehose.sent >= sent
