"""What is shown of Postgres: whether it answers, and how much of the pool is taken."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from prometheus_client import REGISTRY

from indexer.metrics import POOL
from indexer.pool_gauges import PoolGauges
from tests.proxy import Proxy
from tests.waiting import until


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


@pytest.fixture
async def watched(database_url: str) -> AsyncIterator[tuple[Proxy, asyncpg.Pool]]:
    """A pool of two connections, looked at all the time, and what lies between it and Postgres."""
    stop = asyncio.Event()
    async with (
        Proxy(database_url) as proxy,
        asyncpg.create_pool(proxy.url, min_size=1, max_size=2) as pool,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(PoolGauges(pool, interval_seconds=0.05).run(stop))
        yield proxy, pool
        stop.set()


async def test_an_outage_of_postgres_shows_until_it_is_over(watched: tuple[Proxy, asyncpg.Pool]) -> None:
    proxy, _ = watched
    await until(lambda: shown("sluice_dependency_up", dependency="postgres") == 1)
    assert shown("sluice_dependency_round_trip_seconds", dependency="postgres")
    proxy.refuse()
    await until(lambda: shown("sluice_dependency_up", dependency="postgres") == 0)
    assert shown("sluice_dependency_round_trip_seconds", dependency="postgres") is None
    proxy.accept()
    await until(lambda: shown("sluice_dependency_up", dependency="postgres") == 1)


async def test_a_pool_that_is_all_taken_shows_and_is_no_outage(watched: tuple[Proxy, asyncpg.Pool]) -> None:
    _, pool = watched
    await until(lambda: shown("sluice_dependency_up", dependency="postgres") == 1)
    async with pool.acquire(), pool.acquire():
        await until(lambda: shown("indexer_db_pool_connections", state="busy") == 2)
        for _ in range(3):  # a look after another: nothing has been asked in between
            POOL.labels("idle").set(99)
            await until(lambda: shown("indexer_db_pool_connections", state="idle") == 0)
        assert shown("indexer_db_pool_connections", state="unopened") == 0
        assert shown("sluice_dependency_up", dependency="postgres") == 1
    await until(lambda: shown("indexer_db_pool_connections", state="busy") == 0)


async def test_what_a_pool_may_still_open_counts_towards_its_limit(watched: tuple[Proxy, asyncpg.Pool]) -> None:
    await until(lambda: shown("indexer_db_pool_connections", state="unopened") == 1)
    assert shown("indexer_db_pool_connections", state="idle") == 1
