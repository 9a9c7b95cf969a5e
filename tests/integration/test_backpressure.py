"""Backpressure: a writer waits when a stream or Redis is full, goes on when there is room, and loses nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis

from backfiller.ledger import Entry, Ledger
from common.backpressure import Room
from common.standing import BYTES_PER_OUTCOME, BYTES_PER_REPO, standing_bytes
from common.streams import StreamConsumer, StreamWriter
from tests.proxy import Proxy
from tests.waiting import until

STREAM = "firehose_backfill"


@dataclass
class Pressure:
    """What a room has told: each look at the stream, and how long the waits were."""

    told: list[tuple[bool, float]] = field(default_factory=list)

    def __call__(self, stream: str, active: bool, seconds: float) -> None:
        assert stream == STREAM
        self.told.append((active, seconds))

    async def looks(self, more: int = 3) -> None:
        """Until the room has looked so often again, and has not opened."""
        before = len(self.told)
        await until(lambda: len(self.told) >= before + more)
        assert self.told[-1][0]


@pytest.fixture
def pressure() -> Pressure:
    return Pressure()


async def add(redis: Redis, count: int, payload: bytes = b"x") -> None:
    for _ in range(count):
        await redis.xadd(STREAM, {"event": payload})


async def drain(redis: Redis, down_to: int) -> None:
    """As consumers do: by deleting what is done."""
    found: Any = await redis.xrange(STREAM)
    for entry, _ in found[: len(found) - down_to]:
        await redis.xdel(STREAM, entry)


@asynccontextmanager
async def waiting(room: Room, stop: asyncio.Event) -> AsyncIterator["asyncio.Task[bool]"]:
    task = asyncio.create_task(room.wait(stop))
    try:
        yield task
    finally:
        stop.set()
        await task


async def test_there_is_room_below_the_mark(redis: Redis, stop: asyncio.Event, pressure: Pressure) -> None:
    await add(redis, 9)
    assert await Room(redis, STREAM, 10, on_pressure=pressure).wait(stop)
    assert pressure.told == []


async def test_a_writer_waits_at_the_mark_and_goes_on_at_the_lower_one(
    redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    await add(redis, 10)
    room = Room(redis, STREAM, 10, on_pressure=pressure)
    async with waiting(room, stop) as task:
        await pressure.looks()
        await drain(redis, 9)
        await pressure.looks()
        assert not task.done()
        await drain(redis, 8)
        assert await task


async def test_a_wait_is_told_from_its_beginning_to_its_end(
    redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    await add(redis, 10)
    before = time.monotonic()
    async with waiting(Room(redis, STREAM, 10, on_pressure=pressure), stop) as task:
        await pressure.looks()
        await drain(redis, 0)
        assert await task
    assert pressure.told[0] == (True, 0.0)
    assert all(active and seconds > 0 for active, seconds in pressure.told[1:-1])
    assert pressure.told[-1][0] is False
    assert sum(seconds for _, seconds in pressure.told) < time.monotonic() - before


async def test_the_length_that_an_append_came_back_with_counts(redis: Redis, stop: asyncio.Event) -> None:
    room = Room(redis, STREAM, 10)
    assert await room.wait(stop)
    room.observe(10)
    await add(redis, 10)
    async with waiting(room, stop) as task:
        await drain(redis, 8)
        assert await task


async def test_a_redis_near_its_limit_is_full_whatever_the_length(
    own_redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    await own_redis.set("much", b"x" * (16 << 20))  # so that buffers of ours make no difference
    await set_share(own_redis, 0.85)
    room = Room(own_redis, STREAM, 1_000_000, memory_share=0.8, on_pressure=pressure)
    async with waiting(room, stop) as task:
        await pressure.looks()
        await set_share(own_redis, 0.75)
        await pressure.looks(more=25)  # it asks for the memory every second, and looks ten times in one
        assert not task.done()
        await set_share(own_redis, 0.6)
        assert await task


async def test_a_redis_without_a_limit_is_never_near_it(
    own_redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    await own_redis.set("much", b"x" * (8 << 20))
    assert await Room(own_redis, STREAM, 10, on_pressure=pressure).wait(stop)
    assert pressure.told == []


async def set_share(redis: Redis, share: float) -> None:
    await redis.config_set("maxmemory", int((await redis.info("memory"))["used_memory"] / share))


async def test_a_daemon_that_stops_does_not_wait_for_room(
    redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    await add(redis, 10)
    async with waiting(Room(redis, STREAM, 10, on_pressure=pressure), stop) as task:
        await pressure.looks()
        stop.set()
        assert not await task
    assert pressure.told[-1][0] is False


async def test_one_of_many_that_wait_watches_and_all_go_on(
    redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    await add(redis, 10)
    room = Room(redis, STREAM, 10, on_pressure=pressure)
    tasks = [asyncio.create_task(room.wait(stop)) for _ in range(20)]
    await pressure.looks()
    assert [told for told in pressure.told if told == (True, 0.0)] == [(True, 0.0)]
    await drain(redis, 0)
    assert await asyncio.gather(*tasks) == [True] * 20
    assert [active for active, _ in pressure.told].count(False) == 1


async def test_whoever_comes_while_another_waits_waits_too(
    redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    await add(redis, 10)
    room = Room(redis, STREAM, 10, on_pressure=pressure)
    async with waiting(room, stop) as first:
        await pressure.looks()
        await drain(redis, 9)
        await pressure.looks()
        async with waiting(room, stop) as second:
            await pressure.looks()
            assert not second.done()
            await drain(redis, 8)
            assert await asyncio.gather(first, second) == [True, True]


async def test_those_that_wait_go_on_when_who_watched_is_gone(
    redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    await add(redis, 10)
    room = Room(redis, STREAM, 10, on_pressure=pressure)
    watching = asyncio.create_task(room.wait(stop))
    await pressure.looks(1)
    other = asyncio.create_task(room.wait(stop))
    watching.cancel()
    await asyncio.wait([watching])
    await drain(redis, 0)
    assert await other


async def test_an_outage_while_waiting_is_waited_out(
    redis: Redis, shaky: Redis, proxy: Proxy, stop: asyncio.Event, pressure: Pressure
) -> None:
    await add(redis, 10)
    async with waiting(Room(shaky, STREAM, 10, on_pressure=pressure), stop) as task:
        await pressure.looks()
        proxy.refuse()
        await drain(redis, 0)
        await until(lambda: proxy.refused > 1)
        assert not task.done()
        proxy.accept()
        assert await task


async def test_nothing_is_lost_when_the_reader_is_slower_than_the_writer(
    redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    writer = StreamWriter(redis, STREAM, "event", Room(redis, STREAM, 50, on_pressure=pressure))
    consumer = StreamConsumer(redis, STREAM, "group", "one", field="event", batch_size=7)
    seen: list[int] = []
    longest = 0

    async def read() -> None:
        nonlocal longest
        async for batch in consumer.batches(stop):
            longest = max(longest, await redis.xlen(STREAM))
            seen.extend(int(delivery.payload or b"-1") for delivery in batch)
            await consumer.ack(batch, stop)
            if len(seen) == 500:
                return

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        for start in range(0, 500, 20):
            assert await writer.append([b"%d" % number for number in range(start, start + 20)], stop)
    assert seen == list(range(500))
    assert longest < 50 + 20
    assert (True, 0.0) in pressure.told


async def used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


@pytest.mark.parametrize(
    "standing", [("repo_chain", "repos", BYTES_PER_REPO), ("repo_backfill:outcomes", "done", BYTES_PER_OUTCOME)]
)
async def test_what_is_known_of_repos_is_no_pressure_for_it_never_drains(
    own_redis: Redis, stop: asyncio.Event, pressure: Pressure, standing: tuple[str, str, int]
) -> None:
    key, count, each = standing
    await own_redis.config_set("maxmemory", 2 * await used(own_redis))
    await own_redis.hset(key, count, int(0.9 * await used(own_redis) / each))
    assert await Room(own_redis, STREAM, 10, memory_share=0.4, on_pressure=pressure).wait(stop)
    assert pressure.told == []
    await own_redis.delete(key)
    async with waiting(Room(own_redis, STREAM, 10, memory_share=0.4, on_pressure=pressure), stop):
        await pressure.looks()


async def test_a_redis_that_is_too_small_for_its_repos_is_complained_about_once(
    own_redis: Redis, stop: asyncio.Event, pressure: Pressure, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 2 * await used(own_redis)
    await own_redis.config_set("maxmemory", limit)
    await own_redis.hset("repo_chain", "repos", limit // BYTES_PER_REPO + 1)
    room = Room(own_redis, STREAM, 10, on_pressure=pressure)
    async with waiting(room, stop):
        await pressure.looks(15)
    assert caplog.text.count("raise its maxmemory") == 1


async def test_the_ledger_of_backfills_is_known_by_its_size_and_never_overrated(own_redis: Redis) -> None:
    """Under whichever name of its stream; 40 repos to a bucket, as in the whole network."""
    before, repos = await used(own_redis), 20_000
    ledger = Ledger(own_redis, "other_backfills")
    entry = Entry("done", "3lzxs5v5ahc2c", int(time.time() * 1000), 1234, 56, note="0c1d2e3f").text()
    async with own_redis.pipeline(transaction=False) as pipe:
        for number in range(repos):
            pipe.hset(f"other_backfills:outcome:{number // 40:05x}", f"did:plc:{number:024}", entry)
        pipe.hincrby(ledger.counts_key, "done", repos - repos // 10)
        pipe.hincrby(ledger.counts_key, "deleted", repos // 10)
        pipe.zadd(ledger.recheck_key, {f"did:plc:{number:024}": time.time() for number in range(repos // 10)})
        await pipe.execute()
    taken = await used(own_redis) - before
    assert 0.6 * taken < await standing_bytes(own_redis, "other_backfills") < 1.05 * taken
    assert await standing_bytes(own_redis) == 0
