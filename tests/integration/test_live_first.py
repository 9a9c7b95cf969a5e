"""A backfill in the queue does not hold up what is live, shown by counts."""

import asyncpg
from redis.asyncio import Redis

from common.events import EVENT_FIELD, encode_event
from common.streams import FIREHOSE_BACKFILL, FIREHOSE_LIVE, StreamConsumer
from indexer.database import Database
from indexer.turns import Turns
from indexer.work import EventWork
from indexer.worker import Indexer
from tests import factories as make
from tests.factories import ALICE, BOB, POST, uri
from tests.indexers import GROUP, running
from tests.waiting import until

BATCH, BATCHES, LIVE_FOR_EACH = 20, 48, 8


async def fill(redis: Redis, stream: str, author: str) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for number in range(BATCH * BATCHES):
            event = make.create(author, f"r{number}", make.like(uri(ALICE, POST, f"p{number}")), at=number)
            pipe.xadd(stream, {EVENT_FIELD: encode_event(event)})
        await pipe.execute()


async def test_what_is_live_is_indexed_before_a_backfill_that_was_there_first(redis: Redis, pool: asyncpg.Pool) -> None:
    """As long as live entries wait, one batch in nine is the backfill's; then all of them are."""
    database, turns = Database(pool, "bsky"), Turns(LIVE_FOR_EACH)

    def indexer(stream: str, *, is_live: bool) -> Indexer:
        consumer = StreamConsumer(redis, stream, GROUP, "indexer_1", field=EVENT_FIELD, batch_size=BATCH)
        return Indexer(consumer, EventWork(database), database, lanes=2, turns=turns, is_live=is_live)

    await fill(redis, FIREHOSE_BACKFILL, ALICE)
    await fill(redis, FIREHOSE_LIVE, BOB)
    looks: list[tuple[int, int]] = []

    async def all_done() -> bool:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.xlen(FIREHOSE_LIVE)
            pipe.xlen(FIREHOSE_BACKFILL)
            live, backfill = await pipe.execute()
        looks.append((BATCHES - live // BATCH, BATCHES - backfill // BATCH))
        return not live and not backfill

    indexers = indexer(FIREHOSE_LIVE, is_live=True), indexer(FIREHOSE_BACKFILL, is_live=False)
    async with running(*indexers):
        await until(all_done)
    during = [(live, backfill) for live, backfill in looks if 0 < live < BATCHES]
    assert len(during) > 5
    # before the first live batch was at hand, a few may have been on their way
    early = during[0][1] + 4
    assert all(backfill <= early + live / LIVE_FOR_EACH for live, backfill in during)
    assert await pool.fetchval("SELECT count(*) FROM bsky.record") == 2 * BATCH * BATCHES
