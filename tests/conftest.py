"""Real servers started once, and what a test asks of them: an empty Redis, a database of its own, a recorded network.

TEST_REDIS_URL and TEST_DATABASE_URL name servers that already run; the Redis database there is emptied.
"""

import os
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from common.redis_connection import open_redis
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline, Upstream, Wiring
from sluice.recording import Recording
from sluice.stack import embedded_postgres, embedded_redis
from tests.databases import connected
from tests.ingesting import Ingester, StartIngester, settings_for
from tests.recorded_network import StartNetwork

RECORDINGS = Path(__file__).parent / "data" / "recordings"
SHIPPED_RECORDINGS = Path(__file__).parents[1] / "sluice" / "recordings"
SCHEMA = "bsky"

OpenRecording = Callable[[str], Recording]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_server() -> AsyncIterator[str]:
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
        return
    async with embedded_redis(temporary_in=_memory_folder()) as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server() -> AsyncIterator[str]:
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    async with embedded_postgres(disposable=True, temporary_in=_memory_folder()) as url:
        yield url


@pytest.fixture
async def redis_url(redis_server: str) -> str:
    """A Redis that holds nothing."""
    async with open_redis(redis_server) as client:
        await client.flushdb()
    return redis_server


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def own_redis_server() -> AsyncIterator[str]:
    """A Redis whose settings a test may change."""
    async with embedded_redis(temporary_in=_memory_folder()) as url:
        yield url


@pytest.fixture
async def own_redis(own_redis_server: str) -> AsyncIterator[Redis]:
    """An empty Redis with its settings as they should be, for a test to change them."""
    async with open_redis(own_redis_server) as client:
        await client.config_set("maxmemory", 0)
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_resetstat()
        await client.execute_command("FLUSHALL", "SYNC")  # or its memory would be given back during the next test
        yield client


@pytest.fixture
async def database_url(postgres_server: str) -> AsyncIterator[str]:
    """A database of the test's own, without any table."""
    async with _database(postgres_server, "template1") as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_template(postgres_server: str) -> AsyncIterator[str]:
    """The name of a migrated database that is only copied."""
    from indexer.migrations import migrate  # here, so that tests without tables need no indexer

    async with _database(postgres_server, "template1") as url:
        async with connected(url) as connection:
            await migrate(connection, SCHEMA)
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
async def migrated_url(postgres_server: str, migrated_template: str) -> AsyncIterator[str]:
    """A database of the test's own, with every table in the schema `bsky`."""
    async with _database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture
async def pool(migrated_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(migrated_url, min_size=1) as pool:
        yield pool


@pytest.fixture
def index(pool: asyncpg.Pool, migrated_url: str) -> Any:
    """A database to apply events to: a tests.indexing.Index."""
    from tests.indexing import Index  # here, so that tests without tables need no indexer

    return Index(pool, migrated_url)


@pytest.fixture
async def other_index(postgres_server: str, migrated_template: str) -> AsyncIterator[Any]:
    """A second one, to compare with the first."""
    from tests.indexing import Index

    async with _database(postgres_server, migrated_template) as url, asyncpg.create_pool(url, min_size=1) as pool:
        yield Index(pool, url)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that every user may enter, which those of pytest are not: Postgres never runs as root."""
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def recording() -> Iterator[OpenRecording]:
    """Opens a recording by its name: basic, follows, load-tiny or full."""
    with ExitStack() as stack:

        @cache
        def opened(name: str) -> Recording:
            folder = SHIPPED_RECORDINGS if name == "full" else RECORDINGS
            return stack.enter_context(Recording.open(folder / f"{name}.tar.zst"))

        yield opened


@pytest.fixture
def basic(recording: OpenRecording) -> Recording:
    return recording("basic")


@pytest.fixture
async def network(recording: OpenRecording) -> AsyncIterator[StartNetwork]:
    """Serves a recording, given by its name: `await network("basic", pace=100)`."""
    async with AsyncExitStack() as stack:

        async def started(name: str, **options: Any) -> RecordedNetwork:
            return await stack.enter_async_context(RecordedNetwork(recording(name), **options))

        yield started


@pytest.fixture
async def ingester(redis_url: str) -> AsyncIterator[StartIngester]:
    """Starts one that reads these relays: `await ingester(network, INGESTER_BATCH_SIZE="5")`."""
    started: list[Ingester] = []

    async def start(*relays: RecordedNetwork, **environ: str) -> Ingester:
        started.append(await Ingester({"REDIS_URL": redis_url} | settings_for(*relays) | environ).start())
        return started[-1]

    yield start
    for process in started:
        await process.end(signal.SIGKILL)


@pytest.fixture
async def deployment(
    network: StartNetwork, redis_url: str, migrated_url: str, tmp_path: Path
) -> AsyncIterator[Pipeline]:
    """An ingester that reads the recording `basic`, and an indexer, as processes."""
    served = await network("basic")
    upstream = Upstream(served.websocket_url, served.url, outbound_allow=urlsplit(served.url).netloc)
    folder = tmp_path / "logs"
    folder.mkdir()
    async with Pipeline(Wiring(redis_url, migrated_url, SCHEMA, upstream, folder, disposable=True)) as running:
        await running.start_indexer(1)
        await running.start_ingester("firehose")
        yield running


def _memory_folder() -> Path | None:
    """Copying a database takes 20 ms in memory and most of a second on a busy disk. None if there is no room."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return None
    facts = os.statvfs(folder)
    fits = facts.f_bavail * facts.f_frsize > 4 << 30 and not facts.f_flag & os.ST_NOEXEC
    return folder if fits else None


@asynccontextmanager
async def _database(server: str, template: str) -> AsyncIterator[str]:
    name = f"sluice_test_{uuid.uuid4().hex}"
    await _execute(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        await _execute(server, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(server: str, statement: str) -> None:
    async with connected(server) as connection:
        await connection.execute(statement)
