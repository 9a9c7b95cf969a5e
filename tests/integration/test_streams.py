"""Streams against a real Redis that is slow, full, restarted, flushed, or behind a line that drops."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from common.backpressure import Room
from common.delivery import Delivery
from common.errors import CannotStart
from common.redis_connection import check_redis, open_redis
from common.streams import ENOUGH_BYTES, READ_AT_ONCE, Fenced, StreamConsumer, StreamWriter
from sluice.server import free_port
from sluice.stack import embedded_redis
from tests.proxy import Proxy
from tests.waiting import until

STREAM, GROUP, FIELD, CURSOR = "firehose_live", "firehose_group", "event", "firehose_live:cursor:relay"


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def shaky(proxy: Proxy) -> AsyncIterator[Redis]:
    """A client behind the proxy."""
    async with open_redis(proxy.url) as client:
        yield client


def writer(redis: Redis) -> StreamWriter:
    """One that only Redis itself can hold up: rooms are in test_backpressure.py."""
    return StreamWriter(redis, STREAM, FIELD, Room(redis, STREAM, 1_000_000, memory_share=math.inf))


def consumer(redis: Redis, name: str = "one", **options: Any) -> StreamConsumer:
    settings: Any = {"field": FIELD, "batch_size": 100} | options
    return StreamConsumer(redis, STREAM, GROUP, name, **settings)


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


async def add(redis: Redis, payloads: Iterable[bytes]) -> None:
    for payload in payloads:
        await redis.xadd(STREAM, {FIELD: payload})


async def entries(redis: Redis) -> list[dict[bytes, bytes]]:
    found: Any = await redis.xrange(STREAM)
    return [fields for _, fields in found]


async def written(redis: Redis) -> list[bytes]:
    return [fields[FIELD.encode()] for fields in await entries(redis)]


async def pending(redis: Redis) -> int:
    return int((await redis.xpending(STREAM, GROUP))["pending"])


async def is_drained(redis: Redis) -> bool:
    return not (await redis.xlen(STREAM) or await pending(redis))


def payloads(batch: Iterable[Delivery]) -> list[bytes | None]:
    return [delivery.payload for delivery in batch]


async def first(batches: AsyncIterator[list[Delivery]]) -> list[Delivery]:
    """The next batch that holds something."""
    async for batch in batches:
        if batch:
            return batch
    raise AssertionError("it stopped")


@asynccontextmanager
async def reading(consumer: StreamConsumer, stop: asyncio.Event) -> AsyncIterator[list[bytes | None]]:
    """What a consumer that runs beside the test has been given so far."""
    seen: list[bytes | None] = []

    async def run() -> None:
        async for batch in consumer.batches(stop):
            seen.extend(payloads(batch))
            await consumer.ack(batch, stop)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run())
        try:
            yield seen
        finally:
            stop.set()
            task.cancel()  # a read blocks for a second


# writing


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


async def refusals(redis: Redis, code: str) -> int:
    """How many commands this Redis has answered with the code."""
    errors: dict[str, Any] = await redis.info("errorstats")
    return int(errors.get(f"errorstat_{code}", {}).get("count", 0))


# reading


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
    async for _ in consumer(redis).batches(stop):
        stop.set()
    assert stop.is_set()


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


# what Redis does to us


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


async def is_blocked(redis: Redis) -> bool:
    """Whether a reader waits at this moment."""
    return bool((await redis.info("clients"))["blocked_clients"])


async def test_an_ack_after_a_flush_does_no_harm(redis: Redis, stop: asyncio.Event) -> None:
    await add(redis, numbers(1))
    by = consumer(redis)
    batch = await first(by.batches(stop))
    await redis.flushall()
    await by.ack(batch, stop)


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


# what we refuse to start on


async def refusal(redis: Redis, *, disposable: bool = False) -> str:
    with pytest.raises(CannotStart) as refused:
        await check_redis(redis, disposable=disposable)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("disposable", [True, False])
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl"])
async def test_a_redis_that_evicts_is_refused(own_redis: Redis, policy: str, disposable: bool) -> None:
    await own_redis.config_set("maxmemory-policy", policy)
    assert f"maxmemory-policy {policy}" in await refusal(own_redis, disposable=disposable)


async def test_a_redis_without_a_log_is_refused_unless_the_data_is_disposable(own_redis: Redis) -> None:
    await own_redis.config_set("appendonly", "no")
    try:
        assert "appendonly yes" in await refusal(own_redis)
        await check_redis(own_redis, disposable=True)
    finally:
        await own_redis.config_set("appendonly", "yes")
    await check_redis(own_redis, disposable=False)
    await until(lambda: has_its_log(own_redis))  # it does not end before


async def has_its_log(redis: Redis) -> bool:
    about = await redis.info("persistence")
    return not (about["aof_rewrite_in_progress"] or about["aof_rewrite_scheduled"])


async def test_a_redis_that_is_not_there_is_refused() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}") as nobody:
        assert "redis does not answer" in await refusal(nobody)


async def test_a_wrong_password_is_refused_and_not_shown(own_redis_server: str) -> None:
    server = urlsplit(own_redis_server)
    async with open_redis(f"redis://:hunter2@127.0.0.1:{server.port}") as stranger:
        said = await refusal(stranger)
        assert "redis does not answer" in said
        assert "hunter2" not in said


def test_a_url_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(CannotStart, match="REDIS_URL cannot be read"):
        open_redis("localhost:6379")
