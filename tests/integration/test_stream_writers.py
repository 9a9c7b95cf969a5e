"""Writers to a stream: all of a batch and its cursor or nothing of it, once, whatever Redis and the line do."""

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from common.streams import Fenced
from tests.proxy import Proxy
from tests.streaming import CURSOR, STREAM, consumer, entries, first, numbers, refusals, writer, written
from tests.waiting import until


async def test_entries_stand_in_their_order_in_one_field(redis: Redis, stop: asyncio.Event) -> None:
    assert await writer(redis).append(numbers(3), stop)
    assert await writer(redis).append(numbers(2, start=3), stop)
    assert await entries(redis) == [{b"event": number} for number in numbers(5)]


async def test_entries_and_their_cursor_land_together(redis: Redis, stop: asyncio.Event) -> None:
    assert await writer(redis).append_with_cursor(numbers(2), CURSOR, "", "7", stop)
    assert await writer(redis).append_with_cursor(numbers(1, start=2), CURSOR, "7", "9", stop)
    assert (await written(redis), await redis.get(CURSOR)) == (numbers(3), b"9")


async def test_a_batch_without_entries_moves_the_cursor_all_the_same(redis: Redis, stop: asyncio.Event) -> None:
    assert await writer(redis).append_with_cursor([], CURSOR, "", "7", stop)
    assert (await redis.xlen(STREAM), await redis.get(CURSOR)) == (0, b"7")


async def test_a_lost_reply_to_an_append_adds_nothing_twice(
    redis: Redis, shaky: Redis, proxy: Proxy, stop: asyncio.Event
) -> None:
    to = writer(shaky)
    await to.append_with_cursor(numbers(2), CURSOR, "", "2", stop)
    proxy.lose_reply_to(b"EVALSHA")
    assert await to.append_with_cursor(numbers(2, start=2), CURSOR, "2", "4", stop)
    assert proxy.cuts == 1
    assert (await written(redis), await redis.get(CURSOR)) == (numbers(4), b"4")


async def test_without_a_cursor_a_lost_reply_adds_again_rather_than_never(
    redis: Redis, shaky: Redis, proxy: Proxy, stop: asyncio.Event
) -> None:
    to = writer(shaky)
    await to.append(numbers(1), stop)
    proxy.lose_reply_to(b"EVALSHA")
    assert await to.append(numbers(1, start=1), stop)
    assert proxy.cuts == 1
    assert await written(redis) == [b"0", b"1", b"1"]


async def test_a_second_writer_is_fenced_and_writes_nothing(redis: Redis, stop: asyncio.Event) -> None:
    await writer(redis).append_with_cursor(numbers(1), CURSOR, "", "1", stop)
    await writer(redis).append_with_cursor(numbers(1, start=1), CURSOR, "1", "2", stop)
    with pytest.raises(Fenced) as fenced:
        await writer(redis).append_with_cursor([b"x"], CURSOR, "1", "3", stop)
    assert fenced.value.stored == "2"
    assert (await written(redis), await redis.get(CURSOR)) == (numbers(2), b"2")


async def test_a_cursor_that_is_gone_fences_too(redis: Redis, stop: asyncio.Event) -> None:
    await writer(redis).append_with_cursor(numbers(1), CURSOR, "", "1", stop)
    await redis.flushall()
    with pytest.raises(Fenced) as fenced:
        await writer(redis).append_with_cursor(numbers(1, start=1), CURSOR, "1", "2", stop)
    assert (fenced.value.stored, await redis.xlen(STREAM)) == ("", 0)


async def test_a_cursor_that_stands_still_is_a_mistake_of_ours(redis: Redis, stop: asyncio.Event) -> None:
    with pytest.raises(ValueError, match="must change"):
        await writer(redis).append_with_cursor(numbers(1), CURSOR, "7", "7", stop)


async def test_a_full_redis_takes_a_batch_whole_or_not_at_all(own_redis: Redis, stop: asyncio.Event) -> None:
    await own_redis.config_set("maxmemory", 1)
    task = asyncio.create_task(writer(own_redis).append_with_cursor([b"y" * 1000] * 50, CURSOR, "", "1", stop))
    await until(lambda: refusals(own_redis, "OOM"))
    assert await own_redis.exists(STREAM, CURSOR) == 0
    await own_redis.config_set("maxmemory", 0)
    assert await task
    assert (await own_redis.xlen(STREAM), await own_redis.get(CURSOR)) == (50, b"1")


async def test_a_writer_waits_for_a_redis_that_is_away(
    redis: Redis, shaky: Redis, proxy: Proxy, stop: asyncio.Event
) -> None:
    proxy.refuse()
    task = asyncio.create_task(writer(shaky).append_with_cursor(numbers(3), CURSOR, "", "3", stop))
    await until(lambda: proxy.refused > 2)
    assert not task.done()
    proxy.accept()
    assert await task
    assert await written(redis) == numbers(3)


async def test_a_writer_that_is_told_to_stop_has_written_nothing(
    redis: Redis, shaky: Redis, proxy: Proxy, stop: asyncio.Event
) -> None:
    proxy.refuse()
    task = asyncio.create_task(writer(shaky).append_with_cursor(numbers(3), CURSOR, "", "3", stop))
    await until(lambda: proxy.refused > 0)
    stop.set()
    assert not await task
    assert await redis.exists(STREAM, CURSOR) == 0


async def test_a_key_of_another_kind_is_no_outage(redis: Redis, stop: asyncio.Event) -> None:
    await redis.set(STREAM, "text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await writer(redis).append(numbers(1), stop)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await first(consumer(redis).batches(stop))
