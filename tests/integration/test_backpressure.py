"""Backpressure: a writer waits when a stream is full, goes on when there is room, and loses nothing."""

import asyncio
import time

from redis.asyncio import Redis

from common.backpressure import Room
from common.streams import StreamConsumer, StreamWriter
from tests.pressure import STREAM, Pressure, add, drain, waiting
from tests.proxy import Proxy
from tests.waiting import until


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
