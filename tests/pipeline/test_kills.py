"""Daemons killed in the middle of their work and started again: the rows are those of a run without a fault."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from common.streams import FIREHOSE_BACKFILL, FIREHOSE_LIVE, REPO_BACKFILL
from sluice.drain import Watch
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline, Upstream, Wiring
from sluice.processes import DaemonProcess
from tests.expected_rows import differences, expected_rows, rows_of, unexplained
from tests.waiting import until

StartNetwork = Callable[..., Awaitable[RecordedNetwork]]
FRAMES_A_SECOND = 600.0


@pytest.fixture
async def connection(migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


def wiring(network: RecordedNetwork, redis_url: str, database_url: str, folder: Path) -> Wiring:
    host = urlsplit(network.url).netloc
    upstream = Upstream(
        relay_hosts=network.websocket_url, plc_url=network.url, handle_resolver=network.url, outbound_allow=host
    )
    return Wiring(redis_url, database_url, "bsky", upstream, folder, disposable=True)


def kill(daemon: DaemonProcess) -> None:
    """As the kernel does when memory is short: no signal handler runs. The guard above it goes too."""
    guard = daemon.pid
    children = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)


async def test_daemons_that_are_killed_again_and_again_lose_nothing(
    network: StartNetwork, redis: Redis, redis_url: str, migrated_url: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    served = await network("load-tiny", pace=FRAMES_A_SECOND)
    watch = Watch(redis, connection, "bsky", urlsplit(served.url).netloc)
    last = served.recording.last_seq

    async def rows(table: str) -> int:
        return int(await connection.fetchval(f'SELECT count(*) FROM bsky."{table}"'))

    async def progressed(frames: int) -> bool:
        return (await watch.look()).frames >= frames

    async def is_done() -> bool:
        now = await watch.look()
        return now.frames >= last and now.is_drained()

    async with Pipeline(wiring(served, redis_url, migrated_url, tmp_path)) as pipeline:
        indexer, ingester = await pipeline.start_indexer(1), await pipeline.start_ingester("firehose")
        for frames in (300, 900, 1500):
            await until(lambda: progressed(frames))
            kill(ingester)
            await until(lambda: rows("like"))
            kill(indexer)
            ingester = await pipeline.start_ingester("firehose", f"ingester-{frames}")
            indexer = await pipeline.start_indexer(1)
        await until(is_done)
    assert unexplained("load-tiny", differences(await rows_of(connection), expected_rows("load-tiny"))) == []
