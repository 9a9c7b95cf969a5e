"""The physical bound: the rows that an indexer has written, COPYed into empty tables with the same indexes."""

import time
from io import BytesIO

import asyncpg

from indexer.migrations import migrate

COPIED = "copied"


async def copy_seconds(connection: asyncpg.Connection, schema: str) -> tuple[float, int]:
    """Seconds for all rows of `schema`, one table after the other in one transaction, and how many rows they are."""
    await migrate(connection, COPIED)
    tables = [(table, await _columns(connection, schema, table)) for table in await _filled(connection, schema)]
    contents = {}
    for table, columns in tables:
        contents[table] = BytesIO()
        await connection.copy_from_table(
            table, schema_name=schema, columns=columns, output=contents[table], format="binary"
        )
        contents[table].seek(0)
        await connection.execute(f'TRUNCATE "{COPIED}"."{table}" CASCADE')
    rows, started = 0, time.monotonic()
    async with connection.transaction():
        for table, columns in tables:
            status = await connection.copy_to_table(
                table, schema_name=COPIED, columns=columns, source=contents[table], format="binary"
            )
            rows += int(status.split()[-1])
    return time.monotonic() - started, rows


async def _filled(connection: asyncpg.Connection, schema: str) -> list[str]:
    found = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1", schema)
    names = [row[0] for row in found if not row[0].startswith("kysely")]
    return [name for name in names if await connection.fetchval(f'SELECT EXISTS (SELECT FROM "{schema}"."{name}")')]


async def _columns(connection: asyncpg.Connection, schema: str, table: str) -> list[str]:
    """Without those that Postgres generates."""
    found = await connection.fetch(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = $1 AND table_name = $2 AND is_generated = 'NEVER' ORDER BY ordinal_position",
        schema,
        table,
    )
    return [row[0] for row in found]
