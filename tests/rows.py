"""What stands in the tables, in a form that can be compared: {table: its rows as JSON, sorted}."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg

Rows = dict[str, list[dict[str, Any]]]
# what no two runs have in common: serial numbers, and times of our own clock
VOLATILE = {
    "notification": {"id"},
    "sluice.dead_letter": {"id", "first_seen", "entry_id"},
    "sluice.handle_check": {"due_at"},
    "sluice.deletion_check": {"due_at"},
}
# made by the migrations, and the same in every database
FIXED = {"view_param", "kysely_migration", "kysely_migration_lock", "sluice.migration"}


async def all_rows(
    connection: asyncpg.Connection | asyncpg.Pool,
    schema: str = "bsky",
    *,
    without: Mapping[str, Iterable[str]] | None = None,
) -> Rows:
    """Every table that holds something, of the AppView and (named `sluice.x`) of our own.

    `without` names columns to leave out, by table; "*" is all tables.
    """
    tables = await connection.fetch(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY($1)", [schema, f"sluice_{schema}"]
    )
    names = {
        prefix + table: f'"{of}"."{table}"'
        for of, table in tables
        if (prefix := "" if of == schema else "sluice.") + table not in FIXED
    }
    arguments = [argument for name in names for argument in (name, _left_out(name, without or {}))]
    # one statement for all, so that it is one look
    looks = [
        f"SELECT ${2 * number + 1}, (to_jsonb(t) - ${2 * number + 2}::text[])::text FROM {table} AS t"
        for number, table in enumerate(names.values())
    ]
    found: dict[str, list[str]] = {name: [] for name in sorted(names)}
    for name, row in await connection.fetch(" UNION ALL ".join(looks), *arguments):
        found[name].append(row)
    return {name: _sorted([_masked(name, json.loads(row)) for row in rows]) for name, rows in found.items() if rows}


def _masked(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """When a row was marked as deleted is a time of our own clock; that it was is not."""
    return row | {"deletedAt": "<set>"} if table == "op_thread_reply" and row.get("deletedAt") else row


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=json.dumps)


async def table_rows(connection: asyncpg.Connection | asyncpg.Pool, table: str, *columns: str) -> list[Any]:
    """These columns of a table of the AppView's, sorted; of a single column, its values."""
    names = ", ".join(f'"{column}"' for column in columns)
    rows = [tuple(row) for row in await connection.fetch(f'SELECT {names} FROM bsky."{table}"')]
    return sorted((row[0] for row in rows) if len(columns) == 1 else rows, key=repr)


def _left_out(table: str, without: Mapping[str, Iterable[str]]) -> list[str]:
    return sorted({*VOLATILE.get(table, ()), *without.get(table, ()), *without.get("*", ())})
