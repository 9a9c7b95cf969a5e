"""A connection to a database, and who waits there for whom."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def waits_for_a_lock(pool: asyncpg.Pool) -> int:
    """How many sessions of this database do. To be asked outside of any transaction: within one it sees no change."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return int(await pool.fetchval(waiting))
