"""Aggregates move by the rows that really came and went, inside the same transaction; so replays cannot drift."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from indexer.session import Session
from indexer.tables import Counter, Table


class Deltas:
    """How far each aggregate moves: (aggregate table, its key) -> column -> change; and whose rows came to stay."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.gained: set[str] = set()

    def count(self, table: Table, rows: Collection[Any], change: int) -> None:
        """Rows of `table` that came (+1) or went (-1)."""
        if table.notifies or table.farewell:  # not feed_item: a repost that is a duplicate has one, and tells nobody
            owners = {row[table.owner] for row in rows}
            self.gained = self.gained | owners if change > 0 else self.gained - owners
        if not table.counters:
            return
        for row in rows:
            for counter in table.counters:
                if (key := row[counter.by]) and not (counter.unless and row[counter.unless] == "true"):
                    self.by_key[counter.table, key][counter.column] += change

    def touch(self, keys: Iterable[tuple[Counter, str]]) -> None:
        """These stand still, and are there, at 0 if they were not."""
        for counter, key in keys:
            self.by_key[counter.table, key][counter.column] += 0


async def write(session: Session, deltas: Deltas) -> None:
    """To be done last: many want the same aggregates, and whoever has them must not wait for anything else."""
    for table, (key_column, columns) in _AGGREGATES.items():
        moves = {
            key: tuple(by_column.get(column, 0) for column in columns)
            for (name, key), by_column in sorted(deltas.by_key.items())
            if name == table
        }
        if moves:
            by_column = [list(column) for column in zip(*moves.values(), strict=True)]
            await session.execute(_move(table, key_column, columns), list(moves), *by_column)
        if falling := [key for key, move in moves.items() if min(move) < 0]:
            await session.execute(_floor(table, key_column, columns), falling)


def _move(table: str, key: str, columns: tuple[str, ...]) -> str:
    """All keys in one statement, sorted: two would lock rows in different orders. Rows that stand still are made."""
    names = ", ".join(f'"{column}"' for column in columns)
    arrays = ", ".join(f"${n}::bigint[]" for n in range(2, len(columns) + 2))
    sums = ", ".join(f'"{column}" = greatest(0, old."{column}" + EXCLUDED."{column}")' for column in columns)
    moving = " OR ".join(f'EXCLUDED."{column}" <> 0' for column in columns)
    return f"""
INSERT INTO {{app}}.{table} AS old ({key}, {names}) SELECT * FROM unnest($1::text[], {arrays})
ON CONFLICT ({key}) DO UPDATE SET {sums} WHERE {moving}
"""


def _floor(table: str, key: str, columns: tuple[str, ...]) -> str:
    """A row that fell before it ever rose starts at 0. The rows are ours already."""
    floored = ", ".join(f'"{column}" = greatest(0, "{column}")' for column in columns)
    below = " OR ".join(f'"{column}" < 0' for column in columns)
    return f"UPDATE {{app}}.{table} SET {floored} WHERE {key} = ANY($1::text[]) AND ({below})"


_AGGREGATES = {
    "post_agg": ("uri", ("likeCount", "replyCount", "repostCount", "quoteCount")),
    "profile_agg": ("did", ("followersCount", "followsCount", "postsCount")),
}
