"""Streams in a Redis that is full, flushed, restarted, or has forgotten what was there."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from common.redis_connection import open_redis
from common.streams import StreamWriter
from sluice.server import free_port
from sluice.stack import embedded_redis
from tests.proxy import Proxy
from tests.streaming import (
    CURSOR,
    FIELD,
    GROUP,
    STREAM,
    add,
    consumer,
    first,
    is_blocked,
    is_drained,
    numbers,
    payloads,
    pending,
    reading,
    refusals,
    writer,
)
from tests.waiting import until


async def test_a_full_redis_drains_even_after_a_reconnect(own_redis: Redis, stop: asyncio.Event) -> None:
    await add(own_redis, numbers(1))
    by = consumer(own_redis, batch_size=10)
    await by.ack(await first(by.batches(stop)), stop)
    await add(own_redis, [b"y" * 1000] * 100)
    await own_redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await own_redis.xadd(STREAM, {FIELD: b"x"})
    async with reading(by, stop) as seen:
        await until(lambda: len(seen) == 100)
        await until(lambda: is_drained(own_redis))
    # nor would one drain that is older than this: a full Redis before 7.4 refuses whatever is inside MULTI
    assert "cmdstat_multi" not in await own_redis.info("commandstats")


async def test_a_full_redis_lets_a_new_consumer_in_once_there_is_room(own_redis: Redis, stop: asyncio.Event) -> None:
    await add(own_redis, numbers(3))
    await own_redis.config_set("maxmemory", 1)
    async with reading(consumer(own_redis), stop) as seen:
        await until(lambda: refusals(own_redis, "OOM"))
        await own_redis.config_set("maxmemory", 0)
        await until(lambda: len(seen) == 3)


async def test_an_ack_whose_reply_is_lost_is_made_again(
    redis: Redis, shaky: Redis, proxy: Proxy, stop: asyncio.Event
) -> None:
    failures = []
    by = consumer(shaky, on_ack_failure=lambda: failures.append(1))
    await add(redis, numbers(2))
    batch = await first(by.batches(stop))
    proxy.lose_reply_to(b"XACK")
    await by.ack(batch, stop)
    assert (proxy.cuts, len(failures)) == (1, 1)
    assert (await redis.xlen(STREAM), await pending(redis)) == (0, 0)


async def test_a_flushed_redis_is_read_from_its_beginning(redis: Redis, stop: asyncio.Event) -> None:
    async with reading(consumer(redis), stop) as seen:
        await add(redis, numbers(2))
        await until(lambda: len(seen) == 2)
        async with redis.pipeline(transaction=True) as pipe:
            pipe.flushall()
            for number in numbers(3, start=2):
                pipe.xadd(STREAM, {FIELD: number})
            await pipe.execute()
        await until(lambda: len(seen) == 5)
        assert seen == numbers(5)
        await until(lambda: is_drained(redis))


async def test_a_group_that_is_destroyed_is_made_again(redis: Redis, stop: asyncio.Event) -> None:
    async with reading(consumer(redis), stop) as seen:
        await add(redis, numbers(1))
        await until(lambda: len(seen) == 1)
        await until(lambda: is_blocked(redis))
        await redis.xgroup_destroy(STREAM, GROUP)
        await add(redis, numbers(1, start=1))
        await until(lambda: len(seen) == 2)


async def test_a_stream_that_is_deleted_is_made_again(redis: Redis, stop: asyncio.Event) -> None:
    async with reading(consumer(redis), stop) as seen:
        await until(lambda: is_blocked(redis))
        await redis.delete(STREAM)
        await add(redis, numbers(1))
        await until(lambda: len(seen) == 1)


async def test_an_ack_after_a_flush_does_no_harm(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(1))
    by = consumer(redis)
    batch = await first(by.batches(stop))
    await redis.flushall()
    await by.ack(batch, stop)
    assert await redis.keys() == []


async def test_an_entry_that_was_trimmed_away_is_delivered_as_lost(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(3))
    await first(consumer(redis).batches(stop))
    await redis.xtrim(STREAM, maxlen=1, approximate=False)
    again = consumer(redis)
    batch = await first(again.batches(stop))
    assert payloads(batch) == [None, None, b"2"]
    assert [delivery.fields for delivery in batch[:2]] == [{}, {}]
    await again.ack(batch, stop)
    assert await pending(redis) == 0


async def test_a_claim_goes_past_what_was_trimmed_away(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(30))
    await first(consumer(redis, "dead").batches(stop))
    await redis.xtrim(STREAM, maxlen=4, approximate=False)
    async with reading(consumer(redis, "living", batch_size=5, claim_idle_seconds=0.05), stop) as seen:
        await until(lambda: len(seen) == 4)
        assert seen == numbers(4, start=26)
        await until(lambda: is_drained(redis))


async def test_a_restart_of_redis_is_waited_out_by_both_sides(stop: asyncio.Event, tmp_path: Path) -> None:
    port = free_port()
    got: list[bytes | None] = []
    sent = asyncio.Event()

    async def send(to: StreamWriter) -> None:
        for number in range(100):
            before = str(number) if number else ""
            assert await to.append_with_cursor([b"%d" % number], CURSOR, before, str(number + 1), stop)
            if number == 30:
                sent.set()

    async with AsyncExitStack() as clients, asyncio.TaskGroup() as tasks:
        async with embedded_redis(tmp_path, port=lambda: port) as url:
            reader, sender = [await clients.enter_async_context(open_redis(url)) for _ in range(2)]
            got = await clients.enter_async_context(reading(consumer(reader, batch_size=3), stop))
            tasks.create_task(send(writer(sender)))
            await sent.wait()
        async with embedded_redis(tmp_path, port=lambda: port):
            await until(lambda: set(got) == set(numbers(100)))
            assert len(got) <= 106
            stop.set()
