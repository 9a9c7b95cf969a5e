"""Counts are compared and mended while indexers write: none of what is under way is taken for a fault."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from indexer.audit import Report, audit
from indexer.batch import collect
from indexer.database import Database
from indexer.session import Session
from tests import factories as make
from tests.auditing import BOBS, CAROLS_LIKE, check_exact, drop_aggregate, set_count
from tests.databases import waits_for_a_lock
from tests.factories import CAROL, LIKE
from tests.indexing import STREAM, Index
from tests.waiting import until

PATIENCE_SECONDS = 30


class Held(Database):
    """Applies batches, and commits them when it is told to."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool, "bsky")
        self.written, self.may_commit = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with super().transaction() as session:
            yield session
            self.written.set()
            await self.may_commit.wait()


async def repaired(index: Index) -> Report:
    return await audit(index.database, None, repair=True)


@pytest.mark.parametrize("stored", [0, 9, None], ids=["too low", "too high", "no row"])
@pytest.mark.parametrize("deed", ["a like comes", "a like goes"])
async def test_a_repair_waits_for_an_indexer_that_has_moved_the_count(
    deed: str, stored: int | None, counted: Index
) -> None:
    """A count that is too low is floored when a like goes: then it is less wrong than it was when it was found."""
    if deed == "a like goes":
        await counted.apply(CAROLS_LIKE)
    await (drop_aggregate(counted, "likeCount") if stored is None else set_count(counted, "likeCount", stored))
    held = Held(counted.pool)
    event = CAROLS_LIKE if deed == "a like comes" else make.delete(CAROL, LIKE, "l", 4)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(held.apply(collect(make.items([event])), STREAM))
        await held.written.wait()
        repairing = tasks.create_task(repaired(counted))
        await until(lambda: waits_for_a_lock(counted.pool))
        held.may_commit.set()
    assert repairing.result().keys_differing == repairing.result().keys_repaired == 1
    assert await counted.count("post_agg", "likeCount", BOBS) == (2 if deed == "a like comes" else 1)
    await check_exact(counted)


@pytest.mark.parametrize("stored", [0, 9, None], ids=["too low", "too high", "no row"])
async def test_a_repair_does_not_see_the_rows_of_an_indexer_that_has_yet_to_move_the_count(
    stored: int | None, counted: Index
) -> None:
    """The indexer is held where it tells Bob of the like, between the like's row and its count."""
    await (drop_aggregate(counted, "likeCount") if stored is None else set_count(counted, "likeCount", stored))
    async with asyncio.TaskGroup() as tasks, counted.pool.acquire() as holder, holder.transaction():
        await holder.execute("LOCK TABLE bsky.notification IN EXCLUSIVE MODE")
        tasks.create_task(counted.apply(CAROLS_LIKE))
        await until(lambda: waits_for_a_lock(counted.pool))
        report = await repaired(counted)
        assert report.keys_differing == report.keys_repaired == 1
        assert await counted.count("post_agg", "likeCount", BOBS) == 1
    assert await counted.count("post_agg", "likeCount", BOBS) == 2
    await check_exact(counted)


async def test_what_an_indexer_is_writing_is_no_drift(counted: Index) -> None:
    held = Held(counted.pool)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(held.apply(collect(make.items([CAROLS_LIKE])), STREAM))
        await held.written.wait()
        async with asyncio.timeout(PATIENCE_SECONDS):  # whoever waits for a lock waits for ever
            await check_exact(counted)
        held.may_commit.set()
    await check_exact(counted)
