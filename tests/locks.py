"""Who waits for whom in a database."""

import asyncpg


async def waits_for_a_lock(pool: asyncpg.Pool) -> int:
    """How many sessions of this database do. To be asked outside of any transaction: within one it sees no change."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return int(await pool.fetchval(waiting))
