"""Both ends of one stream, what stands on it, and what Redis says of it."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from common.backpressure import Room
from common.delivery import Delivery
from common.streams import StreamConsumer, StreamWriter

STREAM, GROUP, FIELD, CURSOR = "firehose_live", "firehose_group", "event", "firehose_live:cursor:relay"


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


async def refusals(redis: Redis, code: str) -> int:
    """How many commands this Redis has answered with the code."""
    errors: dict[str, Any] = await redis.info("errorstats")
    return int(errors.get(f"errorstat_{code}", {}).get("count", 0))


async def is_blocked(redis: Redis) -> bool:
    """Whether a reader waits at this moment."""
    return bool((await redis.info("clients"))["blocked_clients"])
