"""Frames that are given up are kept where people can see them: with their bytes, once each, and not too many."""

import json
import signal
from base64 import b64decode
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from common.collection_filter import CollectionFilter
from ingester import dead_frames
from ingester.accounts import FIREHOSE
from ingester.controls import LiveFilter
from ingester.dead_frames import FRAMES, MOST_BYTES, Burial, DeadFrame, buried
from ingester.subscription import TRIES_AT_A_FRAME
from ingester.verification import Mode
from ingester.workers import Workers
from tests.commands import sluice
from tests.deadly_worker import DEADLY
from tests.ingesting import Ingester, host, until_cursor
from tests.recorded_network import StartNetwork
from tests.websocket_hosts import TOO_LARGE, Host, Reader, identity, said

EVERYTHING = LiveFilter(CollectionFilter(("*",)))


@pytest.fixture
async def reader(redis: Redis, relay: Host) -> AsyncIterator[Reader]:
    """Its workers die of some frames."""
    async with Workers(1, Mode.OFF, EVERYTHING, module="tests.deadly_worker") as workers, ClientSession() as http:
        yield Reader(http, relay.url, workers, burial=Burial(redis, FIREHOSE.name, "here"))


async def all_buried(redis: Redis) -> list[DeadFrame]:
    return [dead async for dead in buried(redis)]


async def test_a_frame_that_cannot_be_read_is_kept_whole_and_once(redis: Redis, relay: Host, reader: Reader) -> None:
    broken = identity(8)[:-1]
    relay.script = said(identity(7), broken, b"")
    await reader.session(5)
    await reader.session(5)
    found = await all_buried(redis)
    assert {(dead.source, dead.host, dead.after, dead.seq, dead.reason) for dead in found} == {
        ("firehose", "here", 7, 0, "bad_cbor")
    }
    assert [(dead.size, dead.start) for dead in found] == [(len(broken), broken), (0, b"")]


async def test_a_frame_that_kills_workers_is_kept(redis: Redis, relay: Host, reader: Reader) -> None:
    relay.script = said(identity(7), DEADLY, identity(9))
    await reader.session()
    [dead] = await all_buried(redis)
    assert (dead.reason, dead.after, dead.start, reader.seqs) == ("killed_workers", 7, DEADLY, [7, 9])


async def test_of_a_frame_that_is_too_large_it_is_kept_where_it_was(redis: Redis, relay: Host, reader: Reader) -> None:
    relay.has({8: identity(8), 20: TOO_LARGE, 21: identity(21)})
    for _ in range(TRIES_AT_A_FRAME):
        await reader.session(8)
    [dead] = await all_buried(redis)
    assert (dead.reason, dead.after, dead.seq, dead.size, reader.seqs) == ("oversized_frame", 8, 20, 0, [20])


async def test_the_newest_are_kept_and_of_each_so_many_bytes(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_frames, "MOST_FRAMES", 3)
    burial = Burial(redis, FIREHOSE.name, "here")
    for number in range(5):
        await burial.bury("bad_cbor", bytes([number]) * (MOST_BYTES + 1), after=number)
    found = await all_buried(redis)
    assert [dead.after for dead in found] == [2, 3, 4]
    assert {(len(dead.start), dead.size) for dead in found} == {(MOST_BYTES, MOST_BYTES + 1)}
    assert await redis.hlen(FRAMES) == 3


async def test_people_see_what_the_ingester_gave_up_and_drop_it(
    redis: Redis, redis_url: str, network: StartNetwork, tmp_path: Path
) -> None:
    served = await network("basic")
    last, broken = served.firehose.last_seq, identity(10**6)[:-1]
    served.firehose.append(broken)
    served.firehose.append(identity(last + 2))
    environ = {
        "REDIS_URL": redis_url,
        "INGESTER_MODE": "firehose",
        "INGESTER_RELAY_HOSTS": served.websocket_url,
        "INGESTER_VERIFY": "off",
    }
    daemon = await Ingester(environ).start()
    try:
        await until_cursor(redis, served)
        metrics = await daemon.metrics()
        assert (metrics["dropped_total reason=bad_cbor"], metrics.unaccounted) == (1, 0)
    finally:
        await daemon.end(signal.SIGKILL)
    dead = partial(sluice, "dead", folder=tmp_path, environ={"REDIS_URL": redis_url})
    listed = json.loads((await dead("list", "--kind", "frame", "--json")).out)
    assert (listed["about"], listed["reason"]) == (f"firehose/{host(served)} after seq {last}", "bad_cbor")
    assert listed["error"] == f"{len(broken):,} bytes"
    dropped = await dead("replay", "--all", "--kind", "frame")
    assert (dropped.code, "it can only be dropped" in dropped.error) == (1, True)
    assert (await dead("drop", listed["id"], "--kind", "frame")).out == "1 dropped\n"
    assert await all_buried(redis) == []


async def test_a_frame_is_shown_in_base64(redis: Redis, redis_url: str, migrated_url: str, tmp_path: Path) -> None:
    await Burial(redis, FIREHOSE.name, "here").bury("bad_cbor", b"\xff\x00", after=7)
    [dead] = await all_buried(redis)
    servers = {"REDIS_URL": redis_url, "DATABASE_URL": migrated_url}
    shown = await sluice("dead", "show", f"frame:{dead.id}", folder=tmp_path, environ=servers)
    assert b64decode(json.loads(shown.out)["payload"]) == b"\xff\x00"
