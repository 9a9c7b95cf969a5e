"""How daemons end: told to stop they finish what is in hand, and a fault of ours ends them at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
from redis.asyncio import Redis

from common.events import EVENT_FIELD, encode_event
from common.streams import FIREHOSE_LIVE
from sluice.processes import DaemonFailed, DaemonProcess
from sluice.server import free_port
from tests import factories as make
from tests.databases import connected
from tests.factories import ALICE
from tests.recorded_network import StartNetwork
from tests.waiting import until

Start = Callable[..., AbstractAsyncContextManager[DaemonProcess]]
GROUP = "firehose_group"


@pytest.fixture
async def connection(migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    async with connected(migrated_url) as connection:
        yield connection


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def started(http: aiohttp.ClientSession, tmp_path: Path, redis_url: str, migrated_url: str) -> Start:
    """A daemon for the time of a context: `started("indexer", GRACE_SECONDS="60")`."""
    servers = {"REDIS_URL": redis_url, "DATABASE_URL": migrated_url, "DATA_IS_DISPOSABLE": "true"}

    @asynccontextmanager
    async def run(module: str, **environ: str) -> AsyncIterator[DaemonProcess]:
        port = free_port()
        daemon = DaemonProcess(module, module, {**servers, "METRICS_PORT": str(port), **environ}, port, tmp_path)
        try:
            await daemon.until_ready(http)
            yield daemon
        finally:
            await daemon.stop()

    return run


async def add_posts(redis: Redis, count: int) -> None:
    for number in range(count):
        event = make.create(ALICE, f"p{number}", make.post(f"post {number}"), number)
        await redis.xadd(FIREHOSE_LIVE, {EVENT_FIELD: encode_event(event)})


async def in_hand(redis: Redis) -> int:
    return int((await redis.xpending(FIREHOSE_LIVE, GROUP))["pending"])


async def waits_for_a_lock(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND database IS NOT NULL"))


async def test_an_indexer_that_is_told_to_stop_finishes_its_batch(
    started: Start, redis: Redis, connection: asyncpg.Connection, http: aiohttp.ClientSession
) -> None:
    async with started("indexer", GRACE_SECONDS="60") as indexer:
        async with connection.transaction():
            await connection.execute("LOCK TABLE bsky.post")
            await add_posts(redis, 5)
            await until(lambda: waits_for_a_lock(connection))
            ending = asyncio.create_task(indexer.stop())
            await until(lambda: has_status(http, f"{indexer.url}/readyz", 503))
            assert not ending.done()
        assert await ending == 0
    left, indexed = await redis.xlen(FIREHOSE_LIVE), await connection.fetchval("SELECT count(*) FROM bsky.post")
    assert await in_hand(redis) == 0
    assert indexed > 0
    assert indexed + left == 5


async def has_status(http: aiohttp.ClientSession, url: str, status: int) -> bool:
    async with http.get(url) as answer:
        return answer.status == status


async def test_an_indexer_that_cannot_finish_in_time_leaves_its_batch_to_the_next(
    started: Start, redis: Redis, connection: asyncpg.Connection
) -> None:
    await add_posts(redis, 5)
    async with connection.transaction():
        await connection.execute("LOCK TABLE bsky.post")
        async with started("indexer", GRACE_SECONDS="0.3") as indexer:
            await until(lambda: waits_for_a_lock(connection))
            assert await indexer.stop() == 0
        assert (await redis.xlen(FIREHOSE_LIVE), await in_hand(redis)) == (5, 5)
    async with started("indexer"):
        await until(lambda: is_drained(redis))
    assert await connection.fetchval("SELECT count(*) FROM bsky.post") == 5


async def is_drained(redis: Redis) -> bool:
    return not await redis.xlen(FIREHOSE_LIVE)


async def test_sql_that_postgres_calls_wrong_ends_the_indexer_and_nothing_is_acked(
    started: Start, redis: Redis, connection: asyncpg.Connection
) -> None:
    async with started("indexer") as indexer:
        await connection.execute("ALTER TABLE bsky.post DROP COLUMN tags")
        await add_posts(redis, 3)
        await until(lambda: not is_running(indexer))
        assert await indexer.stop() == 1
    assert (await redis.xlen(FIREHOSE_LIVE), await in_hand(redis)) == (3, 3)
    assert "UndefinedColumnError" in indexer.log.read_text()


def is_running(daemon: DaemonProcess) -> bool:
    try:
        daemon.check()
    except DaemonFailed:
        return False
    return True


async def test_an_ingester_that_is_told_to_stop_has_written_what_its_cursor_covers(
    started: Start, network: StartNetwork, redis: Redis
) -> None:
    served = await network("load-tiny", pace=1000)
    cursor = f"firehose_live:cursor:{urlsplit(served.url).netloc}"
    environ = {"INGESTER_RELAY_HOSTS": served.websocket_url, "INGESTER_MODE": "firehose"}
    environ |= {"PLC_URL": served.url, "OUTBOUND_ALLOW": urlsplit(served.url).netloc}
    async with started("ingester", **environ) as ingester:
        await until(lambda: redis.get(cursor))
        assert await ingester.stop() == 0
    assert max(await written_seqs(redis)) <= int(await redis.get(cursor) or 0)
    async with started("ingester", **environ) as ingester:
        await until(lambda: is_at(redis, cursor, served.recording.last_seq))
        assert await ingester.stop() == 0
    found = await written_seqs(redis)
    assert sorted(found) == found
    assert len(found) == 2152


async def is_at(redis: Redis, key: str, seq: int) -> bool:
    return int(await redis.get(key) or 0) >= seq


async def written_seqs(redis: Redis) -> list[int]:
    entries: Any = await redis.xrange(FIREHOSE_LIVE)
    return [json.loads(fields[b"event"])["seq"] for _, fields in entries]
