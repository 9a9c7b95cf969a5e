"""Who comes back after an absence is fetched again."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from common.events import JOB_FIELD, RepoJob, decode_job
from common.redis_connection import open_redis
from common.streams import REPO_BACKFILL
from indexer.deletions import remove_account
from indexer.due import Check
from indexer.resyncs import ResyncQueue
from tests import factories as make
from tests.factories import ALICE, POST, moment, snapshot
from tests.indexing import Index


async def waiting(index: Index) -> list[tuple[str, str, int]]:
    rows = await index.pool.fetch("SELECT did, time, attempts FROM sluice_bsky.resync ORDER BY did")
    return [tuple(row) for row in rows]


async def test_only_who_was_away_is_fetched_again(index: Index) -> None:
    await index.apply(make.account(ALICE, 1, active=True))
    await index.apply(make.account(ALICE, 2, active=True))
    assert await waiting(index) == []
    await index.apply(make.account(ALICE, 3, active=False, status="deactivated"))
    assert await waiting(index) == []
    await index.apply(make.account(ALICE, 4, active=True))
    assert await waiting(index) == [(ALICE, moment(4), 0)]
    await index.pool.execute("DELETE FROM sluice_bsky.resync")
    await index.apply(make.account(ALICE, 4, active=True))
    assert await waiting(index) == []


async def test_an_absence_within_one_batch_counts(index: Index) -> None:
    await index.apply(make.account(ALICE, 1, active=True))
    await index.apply(make.account(ALICE, 3, active=True), make.account(ALICE, 2, active=False))
    assert await waiting(index) == [(ALICE, moment(3), 0)]
    await index.pool.execute("DELETE FROM sluice_bsky.resync")
    await index.apply(make.account(ALICE, 2, active=False), make.account(ALICE, 3, active=True))
    assert await waiting(index) == []


async def test_what_was_removed_with_its_account_comes_back_with_it(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", make.post("before"), 1))
    async with index.database.transaction() as session:
        await remove_account(session, ALICE, moment(5))
    assert await index.rows("post", "text") == []
    await index.apply(make.account(ALICE, 6, active=True))
    assert await waiting(index) == [(ALICE, moment(6), 0)]
    await index.apply(*snapshot(ALICE, {(POST, "a"): make.post("before")}, 1))
    assert await index.rows("post", "text") == ["before"]


async def test_a_backfill_alone_is_no_absence(index: Index) -> None:
    await index.apply(*snapshot(ALICE, {(POST, "a"): make.post()}, 1))
    await index.apply(make.account(ALICE, 2, active=True))
    assert await waiting(index) == []


async def test_who_goes_again_is_not_fetched(index: Index) -> None:
    await index.apply(make.account(ALICE, 1, active=False), make.create(ALICE, "a", make.post(), 1))
    await index.apply(make.account(ALICE, 2, active=True))
    async with index.database.transaction() as session:
        await remove_account(session, ALICE, moment(3))
    assert await waiting(index) == []


@pytest.fixture
async def away(index: Index) -> Check:
    """ALICE, who is back."""
    await index.apply(make.account(ALICE, 1, active=False))
    await index.apply(make.account(ALICE, 2, active=True))
    return Check(ALICE, moment(2), 0)


async def test_a_job_is_queued_and_the_resync_done(redis: Redis, index: Index, away: Check) -> None:
    await ResyncQueue(index.database, redis).look(away)
    (entry,) = await redis.xrange(REPO_BACKFILL)
    assert decode_job(entry[1][JOB_FIELD.encode()]) == RepoJob(did=ALICE)
    assert await waiting(index) == []


@pytest.fixture
async def no_redis() -> AsyncIterator[Redis]:
    async with open_redis("redis://127.0.0.1:1") as client:
        yield client


async def test_without_redis_it_waits(no_redis: Redis, index: Index, away: Check) -> None:
    await ResyncQueue(index.database, no_redis).look(away)
    assert await waiting(index) == [(ALICE, moment(2), 1)]
