"""Brings a database to the schema that Sluice needs, and says before the start what is wrong with one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import asyncpg

from common.errors import CannotStart
from indexer.names import own_schema
from indexer.schema import NEEDED, NEEDED_OWN, NEEDED_SINCE, Migration, column_types, migrations

_OLDEST_SERVER = 14  # the first with multiranges
_SAFE = {"fsync": {"on"}, "full_page_writes": {"on"}, "synchronous_commit": {"on", "remote_apply"}}

# Refusals that an operator can do something about; anything else is a fault of ours.
_REFUSALS = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
    asyncpg.DuplicateTableError,  # tables that neither Sluice nor the AppView's migrator made
    asyncpg.UndefinedObjectError,  # pg_trgm is installed outside of public
    asyncpg.FeatureNotSupportedError,  # pg_trgm is not installed, as Postgres >= 15 says it
    asyncpg.UndefinedFileError,  # the same in Postgres 14
)

# From pg_catalog, not information_schema: that shows a role only what it has rights on, and a missing right
# would look like a missing table.
_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, NULL) AS type
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')
"""

# A role with too few rights is caught here, before the first entry is taken from a stream.
_REFUSED = """
SELECT c.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND CASE
    WHEN c.relname = 'notification_id_seq' THEN NOT has_sequence_privilege(c.oid, 'USAGE')
    WHEN c.relname = ANY ($2) THEN NOT (
        has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND (
            c.relname = 'thread_mute' OR (
                has_table_privilege(c.oid, 'INSERT')
                AND has_table_privilege(c.oid, 'UPDATE')
                AND has_table_privilege(c.oid, 'DELETE')
            )
        )
    )
    ELSE false
END
ORDER BY c.relname
"""

_EXISTS = """
SELECT EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2
)
"""


async def migrate(connection: asyncpg.Connection, schema: str) -> list[str]:
    """Applies what is missing, one transaction a file, and returns the names of the files applied.

    Where the AppView has migrated `schema` itself, only what is Sluice's own is added. May be run at any time,
    by several at once. Raises CannotStart when the role may not, when an applied file has been changed since,
    or when the AppView's schema is too old.
    """
    own = own_schema(schema)
    _refuse_old_server(connection)
    applied = []
    for migration in migrations():
        with _explained(f"cannot apply {migration.name} to schema {schema}"):
            async with connection.transaction(isolation="read_committed"):
                if await _apply(connection, migration, schema, own):
                    applied.append(migration.name)
    if differences := await _differences(connection, schema, own):
        raise CannotStart(
            f"schema {schema} is not one that Sluice can use: {_few(differences)};"
            " if the AppView made it, let @atproto/bsky 0.0.275 or later migrate it first"
        )
    return applied


async def check_schema(connection: asyncpg.Connection, schema: str, appview: str = "") -> None:
    """Raises CannotStart, naming what differs, unless every table and column that the code needs is there and
    this role may use it. `appview`: its tables too, if it has some that ours has not. Reads the catalogue only."""
    own = own_schema(schema)
    if differences := await _differences(connection, schema, own):
        raise CannotStart(f"schema {schema} differs: {_few(differences)}; run: sluice migrate")
    newer = NEEDED_SINCE.get(appview, {})
    if lacking := list(_lacking(schema, newer, await connection.fetch(_COLUMNS, schema))):
        raise CannotStart(f"{_few(lacking)}: let @atproto/bsky {appview} migrate the schema first")
    for name, needed in ((schema, {**NEEDED, **newer}), (own, NEEDED_OWN)):
        if refused := await connection.fetch(_REFUSED, name, list(needed)):
            role = await connection.fetchval("SELECT current_user")
            raise CannotStart(f"role {role} may not use {_few([f'{name}.{row[0]}' for row in refused])}")


async def check_durability(connection: asyncpg.Connection, *, disposable: bool = False) -> None:
    """Raises CannotStart where a commit may be lost by a crash: entries are acked, and gone, after the commit.

    `disposable`: the caller says that this data may be lost; then only the version of the server counts.
    """
    _refuse_old_server(connection)
    if disposable:
        return
    settings = await connection.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY ($1)", list(_SAFE))
    if unsafe := [f"{name}={value}" for name, value in settings if value not in _SAFE[name]]:
        raise CannotStart(f"Postgres runs with {', '.join(unsafe)}, which may lose what was acked: set to on")


def _refuse_old_server(connection: asyncpg.Connection) -> None:
    major = connection.get_server_version().major
    if major < _OLDEST_SERVER:
        raise CannotStart(f"Postgres {major} is too old: Sluice needs {_OLDEST_SERVER} or later")


async def _apply(connection: asyncpg.Connection, migration: Migration, schema: str, own: str) -> bool:
    """In one transaction of the caller. False when there was nothing to do."""
    # one lock for the database, not for the schema: the extension is common to all of them
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('sluice migrate', 0))")
    checksums = await _checksums(connection, own)
    if migration.version in checksums:
        if checksums[migration.version] != migration.checksum:
            raise CannotStart(f"{migration.name} was changed after it was applied: restore it and add a new file")
        return False
    if not migration.is_own and await _made_by_appview(connection, schema, own):
        return False
    for name in (schema, own):
        # not IF NOT EXISTS, which asks for the right to create schemas even where there is nothing to create
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", name):
            await connection.execute(f'CREATE SCHEMA "{name}"')
    await connection.execute(f'SET LOCAL search_path TO "{schema}", public')
    await connection.execute(migration.sql.replace("{own}", f'"{own}"'))
    await connection.execute(
        f'INSERT INTO "{own}".migration (version, name, checksum) VALUES ($1, $2, $3)',
        migration.version,
        migration.name,
        migration.checksum,
    )
    return True


async def _checksums(connection: asyncpg.Connection, own: str) -> dict[int, str]:
    if not await connection.fetchval(_EXISTS, own, "migration"):
        return {}
    return dict(await connection.fetch(f'SELECT version, checksum FROM "{own}".migration'))


async def _made_by_appview(connection: asyncpg.Connection, schema: str, own: str) -> bool:
    names = await connection.fetch(f'SELECT name FROM "{own}".migration')
    by_us = any("_appview_" in row["name"] for row in names)
    return not by_us and bool(await connection.fetchval(_EXISTS, schema, "kysely_migration"))


async def _differences(connection: asyncpg.Connection, schema: str, own: str) -> list[str]:
    return [
        difference
        for name, needed in ((schema, NEEDED), (own, NEEDED_OWN))
        for difference in _lacking(name, needed, await connection.fetch(_COLUMNS, name))
    ]


def _lacking(schema: str, needed: Mapping[str, str], rows: list[asyncpg.Record]) -> Iterator[str]:
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    for table, columns in needed.items():
        if table not in found:
            yield f"table {schema}.{table} is missing"
            continue
        for column, kind in column_types(columns).items():
            actual = found[table].get(column)
            if actual is None:
                yield f"column {schema}.{table}.{column} is missing"
            elif actual != kind:
                yield f"column {schema}.{table}.{column} is {actual}, not {kind}"


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except _REFUSALS as error:
        raise CannotStart(f"{what}: {error.args[0]}") from error
