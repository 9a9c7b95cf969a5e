"""A database that is to be migrated, and what the AppView's own migrations make of one."""

import asyncpg

from indexer.schema import migrations

SCHEMA, OWN = "bsky", "sluice_bsky"


async def appview_migrates(connection: asyncpg.Connection) -> None:
    await connection.execute(f"CREATE SCHEMA {SCHEMA}; SET search_path TO {SCHEMA}, public")
    for migration in migrations():
        if not migration.is_own:
            await connection.execute(migration.sql)
    await connection.execute("RESET search_path")
