"""One transaction's statements: rows in, rows out, a statement for each table whatever the size of the batch."""

from collections.abc import Sequence
from typing import Any

from indexer.names import Names
from indexer.tables import Row, Table

_NOW = """to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


class Session:
    """A connection inside a transaction. `rows` counts the rows changed."""

    def __init__(self, connection: Any, names: Names) -> None:
        self._connection = connection
        self._names = names
        self.rows = 0

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        return list(await self._connection.fetch(self._names.fill(statement), *arguments))

    async def execute(self, statement: str, *arguments: Any) -> int:
        """Rows changed."""
        status: str = await self._connection.execute(self._names.fill(statement), *arguments)
        changed = int(status.rpartition(" ")[2])
        self.rows += changed
        return changed

    async def insert(self, table: Table, rows: Sequence[Row]) -> list[Any]:
        """Insert what collides with nothing, and answer that (owner, unique and counted columns)."""
        names = ", ".join(f'"{column}"' for column in table.columns)
        arrays = ", ".join(f"${n}::text[]" for n in range(1, len(table.columns) + 1))
        values = ", ".join(_value(table, column) for column in table.columns)
        new = await self.fetch(
            f'INSERT INTO {{app}}."{table.name}" ({names}) SELECT {values} FROM unnest({arrays}) AS new({names}) '
            f"ON CONFLICT {_on_conflict(table)} RETURNING {_returned(table)}",
            *columns([row.values for row in rows]),
        )
        self.rows += len(new)
        return new

    async def remove(self, table: Table, uris: Sequence[str]) -> list[Any]:
        """Remove the rows that came from these records, and answer them (as insert does)."""
        if mark := table.deleted_at:
            do = f'UPDATE {{app}}."{table.name}" SET "{mark}" = {_NOW} WHERE "{mark}" IS NULL AND'
        else:
            do = f'DELETE FROM {{app}}."{table.name}" WHERE'
        gone = await self.fetch(f'{do} "{table.owner}" = ANY($1) RETURNING {_returned(table)}', uris)
        self.rows += len(gone)
        return gone


def columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows turned into one array a column, as unnest takes them."""
    return [list(column) for column in zip(*rows, strict=True)]


def _returned(table: Table) -> str:
    counted = [name for counter in table.counters for name in (counter.by, counter.unless) if name]
    names = dict.fromkeys([table.owner, *table.unique, *counted, *(["cid"] if table.farewell else [])])
    return ", ".join(f'"{name}"' for name in names)


def _on_conflict(table: Table) -> str:
    """A row that was only marked as deleted comes back to life, as what it is now."""
    if not (mark := table.deleted_at):
        return "DO NOTHING"
    key = ", ".join(f'"{column}"' for column in table.key)
    values = ", ".join(f'"{column}" = EXCLUDED."{column}"' for column in table.columns if column not in table.key)
    return f'({key}) DO UPDATE SET {values} WHERE EXCLUDED."{mark}" IS NULL'


def _value(table: Table, column: str) -> str:
    kind = table.types.get(column)
    return f'"{column}"::{kind}' if kind else f'"{column}"'
