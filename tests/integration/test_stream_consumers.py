"""Consumers of a stream share it and lose nothing of it: not what is in hand, and not what the dead have left."""

import asyncio
from typing import Any

from redis.asyncio import Redis

from common.streams import ENOUGH_BYTES, READ_AT_ONCE
from tests.proxy import Proxy
from tests.streaming import GROUP, STREAM, add, consumer, first, is_drained, numbers, payloads, pending, reading
from tests.waiting import until


async def test_what_was_written_before_there_was_a_group_is_read(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(3))
    assert payloads(await first(consumer(redis).batches(stop))) == numbers(3)


async def test_ack_deletes(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(3))
    by = consumer(redis)
    batch = await first(by.batches(stop))
    await by.ack(batch[:2], stop)
    assert (await redis.xlen(STREAM), await pending(redis)) == (1, 1)
    await by.ack(batch[2:], stop)
    assert (await redis.xlen(STREAM), await pending(redis)) == (0, 0)


async def test_acking_twice_or_nothing_does_no_harm(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(1))
    by = consumer(redis)
    batch = await first(by.batches(stop))
    for acked in (batch, batch, []):
        await by.ack(acked, stop)
    assert await redis.xlen(STREAM) == 0


async def test_consumers_of_a_group_share_the_work(redis: Redis, stop: asyncio.Event) -> None:
    first_one, second_one = consumer(redis, "one", batch_size=3), consumer(redis, "two", batch_size=3)
    async with reading(first_one, stop) as one, reading(second_one, asyncio.Event()) as two:
        await add(redis, numbers(50))
        await until(lambda: len(one) + len(two) >= 50)
        assert sorted(map(int, filter(None, one + two))) == list(range(50))
        await until(lambda: is_drained(redis))


async def test_a_batch_of_large_entries_is_cut_so_that_it_does_not_fill_the_memory(
    redis: Redis, stop: asyncio.Event
) -> None:
    large = b"x" * (ENOUGH_BYTES // READ_AT_ONCE + 1)
    await add(redis, [*[large] * READ_AT_ONCE, *numbers(2 * READ_AT_ONCE)])
    batches = consumer(redis, batch_size=3 * READ_AT_ONCE).batches(stop)
    assert [len(await anext(batches)) for _ in range(2)] == [READ_AT_ONCE, 2 * READ_AT_ONCE]


async def test_an_entry_without_our_field_says_so(redis: Redis, stop: asyncio.Event) -> None:
    await redis.xadd(STREAM, {"other": "x"})
    (delivery,) = await first(consumer(redis).batches(stop))
    assert (delivery.payload, delivery.fields) == (None, {b"other": b"x"})


async def test_nothing_to_do_is_an_empty_batch(redis: Redis, stop: asyncio.Event) -> None:
    assert await anext(consumer(redis).batches(stop)) == []


async def test_a_consumer_that_is_told_to_stop_ends(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(1))
    batches = consumer(redis).batches(stop)
    assert payloads(await anext(batches)) == numbers(1)
    stop.set()
    assert [batch async for batch in batches] == []


async def test_after_a_restart_a_consumer_is_given_what_it_left_first(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(250))
    left: list[bytes | None] = []
    async for batch in consumer(redis).batches(stop):
        left += payloads(batch)
        if len(left) == 200:
            break
    again = consumer(redis).batches(stop)
    assert payloads(await first(again)) + payloads(await first(again)) == left
    assert payloads(await first(again)) == numbers(50, start=200)


async def test_a_lost_reply_to_a_read_loses_no_entry(
    redis: Redis, shaky: Redis, proxy: Proxy, stop: asyncio.Event
) -> None:
    async with reading(consumer(shaky, batch_size=10), stop) as seen:
        await add(redis, numbers(10))
        await until(lambda: len(seen) == 10)
        proxy.lose_reply_to(b"XREADGROUP")
        await add(redis, numbers(30, start=10))
        await until(lambda: len(seen) >= 40)
        assert proxy.cuts == 1
        assert sorted(seen, key=lambda payload: int(payload or 0)) == numbers(40)
        await until(lambda: is_drained(redis))


async def test_what_is_in_hand_is_not_delivered_again(
    redis: Redis, shaky: Redis, proxy: Proxy, stop: asyncio.Event
) -> None:
    by = consumer(shaky, batch_size=5)
    batches = by.batches(stop)
    await add(redis, numbers(5))
    in_hand = await first(batches)
    proxy.break_connections()
    await add(redis, numbers(1, start=5))
    assert payloads(await first(batches)) == [b"5"]
    by.release(in_hand[:2])
    proxy.break_connections()
    assert payloads(await first(batches)) == numbers(2)


async def test_entries_of_a_dead_consumer_are_claimed_and_processed(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(25))
    await first(consumer(redis, "dead", batch_size=20).batches(stop))
    living = consumer(redis, "living", batch_size=7, claim_idle_seconds=0.05)
    async with reading(living, stop) as seen:
        await until(lambda: len(seen) == 25)
        assert sorted(map(int, filter(None, seen))) == list(range(25))
        await until(lambda: is_drained(redis))


async def test_entries_of_the_living_are_left_to_them(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(5))
    await first(consumer(redis, "slow").batches(stop))
    async with reading(consumer(redis, "eager", claim_idle_seconds=3600), stop) as seen:
        await add(redis, numbers(1, start=5))
        await until(lambda: seen)
    assert seen == [b"5"]
    assert await pending(redis) == 5


async def test_entries_of_the_dead_are_found_behind_those_of_the_living(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(31))
    await first(consumer(redis, "slow", batch_size=30).batches(stop))
    (left,) = await first(consumer(redis, "dead").batches(stop))
    await redis.xclaim(STREAM, GROUP, "dead", 0, [left.id], idle=3_600_000)
    async with reading(consumer(redis, "eager", batch_size=1, claim_idle_seconds=1800), stop) as seen:
        await until(lambda: seen)
    assert seen == [b"30"]


async def test_a_slow_consumer_gives_signs_of_life(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(1))
    slow = consumer(redis, "slow", claim_idle_seconds=0.3)
    await first(slow.batches(stop))
    idle, signs = -1, 0
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(slow.hold(stop))

        async def seen_thrice() -> bool:
            nonlocal idle, signs
            before, idle = idle, await idle_ms(redis)
            signs += idle < before
            return signs >= 3

        await until(seen_thrice)
        stop.set()


async def test_signs_of_life_go_on_after_an_outage(
    redis: Redis, shaky: Redis, proxy: Proxy, stop: asyncio.Event
) -> None:
    await add(redis, numbers(1))
    slow = consumer(shaky, "slow", claim_idle_seconds=0.15)
    await first(slow.batches(stop))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(slow.hold(stop))
        proxy.refuse()
        await until(lambda: proxy.refused > 1)
        await redis.xclaim(STREAM, GROUP, "slow", 0, [await the_entry(redis)], idle=3_600_000, justid=True)
        proxy.accept()
        await until(lambda: is_younger(redis, 3_600_000))
        stop.set()


async def the_entry(redis: Redis) -> Any:
    return (await redis.xpending_range(STREAM, GROUP, "-", "+", 1))[0]["message_id"]


async def idle_ms(redis: Redis) -> int:
    """How long nobody has given a sign of life for the entry that is pending."""
    return int((await redis.xpending_range(STREAM, GROUP, "-", "+", 1))[0]["time_since_delivered"])


async def is_younger(redis: Redis, milliseconds: int) -> bool:
    return await idle_ms(redis) < milliseconds
