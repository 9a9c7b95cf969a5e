"""Indexers between Redis and Postgres, what they are given, and what they have buried."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from redis.asyncio import Redis

from common.events import EVENT_FIELD, StreamEvent, encode_event
from common.streams import FIREHOSE_LIVE, StreamConsumer
from indexer.database import Database
from indexer.work import EventWork
from indexer.worker import Indexer
from tests import factories as make
from tests.factories import ALICE, BOB, POST, uri
from tests.waiting import until

GROUP = "firehose_group"
BOBS = uri(BOB, POST, "b")


def indexer(redis: Redis, pool: asyncpg.Pool, name: str = "indexer_1", batch_size: int = 100) -> Indexer:
    database = Database(pool, "bsky")
    consumer = StreamConsumer(
        redis, FIREHOSE_LIVE, GROUP, name, field=EVENT_FIELD, batch_size=batch_size, claim_idle_seconds=60
    )
    return Indexer(consumer, EventWork(database), database, lanes=2)


@asynccontextmanager
async def running(*indexers: Indexer) -> AsyncIterator["asyncio.Task[None]"]:
    """Indexers beside the test; the first one's task, which fails the test when it fails."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(each.run(stop)) for each in indexers]
    try:
        yield tasks[0]
    finally:
        stop.set()
        for task in tasks:
            task.cancel()  # a read blocks for a second
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def add(redis: Redis, *entries: StreamEvent | bytes) -> None:
    """At once: no read brings a part of them."""
    async with redis.pipeline() as pipe:
        for entry in entries:
            pipe.xadd(FIREHOSE_LIVE, {EVENT_FIELD: entry if isinstance(entry, bytes) else encode_event(entry)})
        await pipe.execute()


async def is_drained(redis: Redis, stream: str = FIREHOSE_LIVE) -> bool:
    return not await redis.xlen(stream)


async def indexed(redis: Redis, pool: asyncpg.Pool, *entries: StreamEvent | bytes, **options: Any) -> None:
    """Until all of it is acked."""
    await add(redis, *entries)
    async with running(indexer(redis, pool, **options)) as task:
        await until(lambda: task.done() or is_drained(redis))
        assert not task.done(), task.exception()


async def letters(pool: asyncpg.Pool) -> list[tuple[str, str, str]]:
    """(reason, SQLSTATE, URI) of each dead letter."""
    rows = await pool.fetch("SELECT reason, sqlstate, uri FROM sluice_bsky.dead_letter ORDER BY id")
    return [tuple(row) for row in rows]


def posts(count: int, who: str = ALICE, start: int = 0) -> list[StreamEvent]:
    return [
        make.create(who, f"p{number}", make.post(f"post {number}"), number) for number in range(start, start + count)
    ]
