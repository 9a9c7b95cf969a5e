"""One transaction's statements: rows in, rows out, all tables at once, whatever the size of the batch."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from indexer.names import Names
from indexer.packing import packed
from indexer.tables import Row, Table, Values

# of a row that came or went: its owner, what makes it unique, what it counts towards; as text
Returned = dict[str, Any]
_NOW = """to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


class Session:
    """A connection inside a transaction. `rows` counts the rows changed."""

    def __init__(self, connection: Any, names: Names) -> None:
        self._connection = connection
        self._names = names
        self.rows = 0

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        text, sent = packed(self._names.fill(statement), arguments)
        return list(await self._connection.fetch(text, *sent))

    async def execute(self, statement: str, *arguments: Any) -> int:
        """Rows changed."""
        text, sent = packed(self._names.fill(statement), arguments)
        status: str = await self._connection.execute(text, *sent)
        changed = int(status.rpartition(" ")[2])
        self.rows += changed
        return changed

    async def copy(self, table: str, columns: Sequence[str], rows: Sequence[Values]) -> None:
        """Into a table of the AppView's, what collides with nothing there: two thirds of the work of an INSERT."""
        if rows:
            await self._connection.copy_records_to_table(
                table, schema_name=self._names.app_schema, columns=columns, records=rows
            )
            self.rows += len(rows)

    async def insert(self, rows: Mapping[Table, Sequence[Row]]) -> dict[Table, list[Returned]]:
        """Insert into all tables in one statement what collides with nothing there, and answer that."""
        parts: list[str] = []
        arguments: list[Any] = []
        for table in in_order(rows):
            names = ", ".join(f'"{column}"' for column in table.columns)
            arrays = ", ".join(f"${len(arguments) + n}::text[]" for n in range(1, len(table.columns) + 1))
            values = ", ".join(_value(table, column) for column in table.columns)
            parts.append(
                f'INSERT INTO {{app}}."{table.name}" ({names}) '
                f"SELECT {values} FROM unnest({arrays}) AS new({names}) ON CONFLICT {_on_conflict(table)}"
            )
            arguments += columns([row.values for row in rows[table]])
        return await self._together(in_order(rows), parts, arguments)

    async def remove(self, uris: Mapping[Table, Sequence[str]]) -> dict[Table, list[Returned]]:
        """Remove from all tables in one statement the rows that came from these records, and answer them."""
        parts: list[str] = []
        arguments: list[Any] = []
        for table in in_order(uris):
            arguments.append(sorted(uris[table]))
            own = f"ANY(${len(arguments)}::text[])"
            if mark := table.deleted_at:
                key = ", ".join(f'"{column}"' for column in table.key)
                do = f'UPDATE {{app}}."{table.name}" SET "{mark}" = {_NOW} WHERE "{mark}" IS NULL'
                parts.append(f"{do} AND ({key}) IN ({table.keys} = {own})")
            else:
                parts.append(f'DELETE FROM {{app}}."{table.name}" WHERE "{table.owner}" = {own}')
        return await self._together(in_order(uris), parts, arguments)

    async def _together(
        self, tables: Sequence[Table], parts: Sequence[str], arguments: Sequence[Any]
    ) -> dict[Table, list[Returned]]:
        """One change a table, as one statement: what they return comes back in as many text columns as any needs."""
        if not tables:
            return {}
        width = max(len(_returned(table)) for table in tables)
        changes, answers = [], []
        for number, (table, part) in enumerate(zip(tables, parts, strict=True)):
            names = _returned(table)
            changes.append(f"change_{number} AS ({part} RETURNING " + ", ".join(f'"{name}"' for name in names) + ")")
            texts = [f'"{name}"::text' for name in names] + ["NULL"] * (width - len(names))
            answers.append(f"SELECT {number}, {', '.join(texts)} FROM change_{number}")
        found = await self.fetch(f"WITH {', '.join(changes)} {' UNION ALL '.join(answers)}", *arguments)
        self.rows += len(found)
        changed: dict[Table, list[Returned]] = {table: [] for table in tables}
        for number, *texts in found:
            table = tables[number]
            changed[table].append(dict(zip(_returned(table), texts, strict=False)))
        return changed


def in_order(by_table: Iterable[Table]) -> list[Table]:
    """Every transaction takes the tables in one order."""
    return sorted(by_table, key=lambda table: table.name)


def columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows turned into one array a column, as unnest takes them."""
    return [list(column) for column in zip(*rows, strict=True)]


@functools.cache
def _returned(table: Table) -> tuple[str, ...]:
    counted = [name for counter in table.counters for name in (counter.by, counter.unless) if name]
    return tuple(
        dict.fromkeys([table.owner, *table.unique, *counted, *table.returns, *(["cid"] if table.farewell else [])])
    )


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
