"""The indexer between a real Redis and a real Postgres: what it acks, what stops it, what it waits out."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from common.streams import FIREHOSE_LIVE
from indexer.migrations import migrate
from sluice.server import free_port
from sluice.stack import embedded_postgres
from tests import factories as make
from tests.databases import connected, waits_for_a_lock
from tests.factories import did
from tests.indexers import BOBS, GROUP, add, indexed, indexer, is_drained, letters, posts, running
from tests.indexing import Index
from tests.proxy import Proxy
from tests.samples import moved
from tests.waiting import until


async def test_what_is_on_the_stream_ends_in_the_tables_and_is_acked(redis: Redis, index: Index) -> None:
    await indexed(redis, index.pool, *posts(250))
    assert len(await index.rows("post", "uri")) == 250
    assert (await redis.xpending(FIREHOSE_LIVE, GROUP))["pending"] == 0


async def test_nothing_is_acked_before_it_is_committed(redis: Redis, index: Index) -> None:
    await add(redis, *posts(3))
    async with index.pool.acquire() as connection, running(indexer(redis, index.pool)):
        async with connection.transaction():
            await connection.execute("LOCK TABLE bsky.post")
            await until(lambda: waits_for_a_lock(index.pool))
            assert await redis.xlen(FIREHOSE_LIVE) == 3
        await until(lambda: is_drained(redis))
    assert len(await index.rows("post", "uri")) == 3


async def test_a_daemon_that_stops_leaves_what_it_could_not_write(
    redis: Redis, index: Index, migrated_url: str
) -> None:
    await add(redis, *posts(3))
    stop = asyncio.Event()
    async with Proxy(index.url) as proxy, asyncpg.create_pool(proxy.url, min_size=1) as pool:
        task = asyncio.create_task(indexer(redis, pool).run(stop))
        proxy.refuse()
        await until(lambda: proxy.refused > 1)
        stop.set()
        await asyncio.wait_for(task, 60)
    assert (await redis.xlen(FIREHOSE_LIVE), (await redis.xpending(FIREHOSE_LIVE, GROUP))["pending"]) == (3, 3)
    await indexed(redis, index.pool)
    assert len(await index.rows("post", "uri")) == 3


async def test_a_fault_of_ours_stops_the_indexer_and_nothing_is_acked(redis: Redis, index: Index) -> None:
    await index.pool.execute("ALTER TABLE bsky.post DROP COLUMN tags")
    await add(redis, *posts(3))
    stop = asyncio.Event()
    with pytest.raises(ExceptionGroup) as failure:
        await asyncio.wait_for(indexer(redis, index.pool).run(stop), 60)
    assert failure.group_contains(asyncpg.UndefinedColumnError)
    assert (await redis.xlen(FIREHOSE_LIVE), (await redis.xpending(FIREHOSE_LIVE, GROUP))["pending"]) == (3, 3)
    assert await letters(index.pool) == []


async def test_a_backend_that_is_terminated_costs_nothing(redis: Redis, index: Index) -> None:
    likes = [make.create(did(f"fan{n}"), "l", make.like(BOBS), n) for n in range(10)]
    await add(redis, *likes)
    errors = moved("indexer_unexpected_errors_total")
    async with index.pool.acquire() as connection, running(indexer(redis, index.pool)):
        async with connection.transaction():
            await connection.execute('LOCK TABLE bsky."like"')
            await until(lambda: waits_for_a_lock(index.pool))
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks"
                " WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        await until(lambda: is_drained(redis))
    assert await index.count("post_agg", "likeCount", BOBS) == 10
    assert errors() > 0


async def test_a_commit_whose_reply_is_lost_counts_once(redis: Redis, index: Index) -> None:
    likes = [make.create(did(f"fan{n}"), "l", make.like(BOBS), n) for n in range(10)]
    await add(redis, *likes)
    async with Proxy(index.url) as proxy, asyncpg.create_pool(proxy.url, min_size=1) as pool:
        proxy.lose_reply_to(b"COMMIT")
        async with running(indexer(redis, pool)):
            await until(lambda: is_drained(redis))
        assert proxy.cuts == 1
    assert await index.count("post_agg", "likeCount", BOBS) == 10


async def test_a_restart_of_postgres_is_waited_out(redis: Redis, open_folder: Path) -> None:
    port = free_port()
    async with embedded_postgres(open_folder, disposable=True, port=lambda: port) as url:
        async with connected(url) as connection:
            await migrate(connection, "bsky")
        pool = await asyncpg.create_pool(url, min_size=1)
        await indexed(redis, pool, *posts(3))
    try:
        await add(redis, *posts(3, start=3))
        errors = moved("indexer_unexpected_errors_total")
        async with running(indexer(redis, pool)):
            await until(errors)
            async with embedded_postgres(open_folder, disposable=True, port=lambda: port):
                await until(lambda: is_drained(redis))
                assert await pool.fetchval("SELECT count(*) FROM bsky.post") == 6
    finally:
        pool.terminate()
