"""How a job leaves its stream, parked, dead or done: once, though replies are lost and Redis is full."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from backfiller.ledger import Ledger
from backfiller.outcomes import Finished
from backfiller.parking import Parking
from backfiller.settlements import Settlements
from common.delivery import Delivery
from common.streams import StreamConsumer
from sluice.recording import Recording
from tests.backfilling import (
    DLQ,
    GROUP,
    INPUT,
    PARKED,
    backfiller,
    enqueue,
    environment,
    host,
    no_pending,
    output,
    work_off,
)
from tests.samples import sample
from tests.waiting import until

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


def settlements(redis: Redis, consumer: StreamConsumer) -> Settlements:
    return Settlements(redis, consumer, Ledger(redis, INPUT), DLQ, recheck_seconds=60)


@pytest.fixture
async def delivery(redis: Redis) -> AsyncIterator[tuple[StreamConsumer, Delivery]]:
    consumer = StreamConsumer(redis, INPUT, GROUP, "backfiller1", field="repo", batch_size=10)
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
    async for deliveries in consumer.batches(asyncio.Event()):
        yield consumer, deliveries[0]
        break


async def test_parking_twice_parks_once_even_if_the_job_is_back_already(
    redis: Redis, delivery: tuple[StreamConsumer, Delivery]
) -> None:
    """As after a reply that was lost: the script ran, and is sent again."""
    consumer, entry = delivery
    stop = asyncio.Event()
    parking = Parking(redis, consumer)
    await parking.park(entry, b"job", 0.0, stop)
    assert await redis.zcard(PARKED) == 1
    assert await redis.xlen(INPUT) == 0
    async with asyncio.TaskGroup() as group:
        group.create_task(parking.return_due(stop))
        await until(lambda: redis.xlen(INPUT))
        stop.set()
    await parking.park(entry, b"job", 0.0, asyncio.Event())
    await settlements(redis, consumer).bury(entry, DID, {"repo": b"job"}, asyncio.Event())
    await settlements(redis, consumer).finish(entry, DID, Finished("done"), "", asyncio.Event())
    assert await redis.zcard(PARKED) == await redis.xlen(DLQ) == 0
    [(_, fields)] = await redis.xrange(INPUT)
    assert fields == {b"repo": b"job"}
    assert await Ledger(redis, INPUT).counts() == {}


async def test_what_is_not_due_stays_parked(redis: Redis) -> None:
    consumer = StreamConsumer(redis, INPUT, GROUP, "backfiller1", field="repo", batch_size=10)
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"])
    parking, stop = Parking(redis, consumer), asyncio.Event()
    async for later, sooner in consumer.batches(stop):
        await parking.park(later, b"later", 60.0, stop)
        await parking.park(sooner, b"sooner", 0.1, stop)
        break
    async with asyncio.TaskGroup() as group:
        group.create_task(parking.return_due(stop))
        await until(lambda: redis.xlen(INPUT))
        stop.set()
    assert [fields for _, fields in await redis.xrange(INPUT)] == [{b"repo": b"sooner"}]
    assert await redis.zrange(PARKED, 0, -1) == [b"later"]


async def test_a_full_redis_takes_parked_and_dead_jobs_all_the_same(redis_url: str, redis: Redis) -> None:
    """Otherwise the entries could not leave the stream, and Redis would stay full."""
    consumer = StreamConsumer(redis, INPUT, GROUP, "backfiller1", field="repo", batch_size=10)
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"])
    parking = Parking(redis, consumer)
    async for first, second in consumer.batches(asyncio.Event()):
        await redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(OutOfMemoryError):
                await redis.xadd(INPUT, {"repo": "x"})
            async with asyncio.timeout(5):
                await parking.park(first, b"job", 60.0, asyncio.Event())
                await settlements(redis, consumer).bury(second, DID, {"repo": b"job"}, asyncio.Event())
        finally:
            await redis.config_set("maxmemory", 0)
        break
    assert (await redis.zcard(PARKED), await redis.xlen(DLQ), await redis.xlen(INPUT)) == (1, 1, 0)


async def test_what_is_held_for_long_is_not_claimed_by_another(redis: Redis) -> None:
    mine, other = (
        StreamConsumer(redis, INPUT, GROUP, name, field="repo", batch_size=10, claim_idle_seconds=0.3)
        for name in ("backfiller1", "backfiller2")
    )
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
    hold, stop = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        async for entries in mine.batches(asyncio.Event()):
            assert len(entries) == 1
            break
        group.create_task(mine.hold(hold))
        looks = []
        async for entries in other.batches(stop):  # a look without a find takes a second
            looks.append(len(entries))
            if len(looks) == 2:
                hold.set()
            if entries:
                stop.set()
    assert looks[:2] == [0, 0]
    assert looks[-1] == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"repo": "{"},
        {"repo": "[]"},
        {"repo": '{"did":1}'},
        {"repo": '{"host":"https://relay.test"}'},
        {"repo": '{"did":"nonsense"}'},
        {"repo": b"\xff"},
        {"event": "{}"},
        {"repo": "[" * 100_000},
    ],
)
async def test_an_entry_that_is_no_job_goes_to_the_dead_letters_as_it_came(
    fields: dict[Any, Any], redis: Redis, redis_url: str, basic: Recording
) -> None:
    did = basic.repos[0].did
    async with host() as pds:
        pds.serve(basic, did)
        await redis.xadd(INPUT, fields)
        await enqueue(redis, [did])
        await work_off(redis, environment(redis_url, pds.url))
    [(_, letter)] = await redis.xrange(DLQ)
    assert (letter[b"reason"], letter[b"attempts"]) == (b"bad_entry", b"0")
    for name, text in fields.items():
        assert letter[name.encode()] == (text if isinstance(text, bytes) else text.encode())
    assert b"repo" in letter
    assert (await output(redis))[did].whole


async def test_an_entry_that_was_deleted_under_way_is_counted_as_lost_and_let_go(redis: Redis, redis_url: str) -> None:
    before = sample("backfiller_repo_outcomes_total", outcome="lost_entry")
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
    await redis.xgroup_create(INPUT, GROUP, id="0")
    await redis.xreadgroup(GROUP, "backfiller1", {INPUT: ">"})
    await redis.xtrim(INPUT, maxlen=0)
    async with host() as pds, backfiller(environment(redis_url, pds.url)):
        await until(no_pending(redis))
    assert sample("backfiller_repo_outcomes_total", outcome="lost_entry") == before + 1
