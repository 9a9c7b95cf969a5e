"""Compares aggregates with COUNT(*) over the rows that they count, by the declarations that the indexer counts by.

Indexers commit rows and counts together, and one statement sees one snapshot: so what a comparison finds is drift,
whatever is being written meanwhile, and it locks nothing. A repair locks the aggregate's row first, for a count that
is too low may be floored at 0 in between.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from indexer import counts
from indexer.database import Database
from indexer.records import HANDLERS
from indexer.session import Session
from indexer.tables import Counter, Table

PORTION = 200  # keys compared in one statement
LISTED = 1000  # differences that a report lists; it counts all of them


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A table of counts: the column that it is keyed by, and the rows that each of the others counts."""

    name: str
    key: str
    counted: tuple[tuple[Table, Counter], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """`stored` is None where rows count towards a key that has no aggregate."""

    aggregate: str
    column: str
    key: str
    stored: int | None
    counted: int


def _zeros() -> dict[str, int]:
    return dict.fromkeys(COLUMNS, 0)


@dataclass(slots=True)
class Report:
    """`checked` and `differing` count keys, for each column (post_agg.likeCount); `differences` are the first of them.

    `keys_differing` have a column that differs; `keys_repaired` of them were counted again and found exact.
    """

    checked: dict[str, int] = field(default_factory=_zeros)
    differing: dict[str, int] = field(default_factory=_zeros)
    differences: list[Difference] = field(default_factory=list)
    keys_differing: int = 0
    keys_repaired: int = 0

    def note(self, aggregate: Aggregate, keys: int, found: Sequence[Difference]) -> None:
        for _, counter in aggregate.counted:
            self.checked[f"{aggregate.name}.{counter.column}"] += keys
        for difference in found:
            self.differing[f"{aggregate.name}.{difference.column}"] += 1
        self.differences += found[: LISTED - len(self.differences)]
        self.keys_differing += len(_keys(found))


async def audit(
    database: Database,
    sample: int | None,
    *,
    repair: bool = False,
    on_progress: Callable[[int], None] = lambda keys: None,
) -> Report:
    """Compare `sample` random keys of each aggregate, and those that as many random rows of each table count towards
    but that have no aggregate; or every key, if `sample` is None.

    A sample reads random blocks, so it costs the same however large a table is; all keys are walked in their order.
    `on_progress` hears how many keys each step has done.
    """
    report = Report()
    for aggregate in AGGREGATES:
        portions = _all_keys(database, aggregate) if sample is None else _sampled_keys(database, aggregate, sample)
        async for keys in portions:
            async with database.transaction() as session:
                found = await compare(session, aggregate, keys)
            report.note(aggregate, len(keys), found)
            on_progress(len(keys))
            for key in _keys(found) if repair else ():
                report.keys_repaired += await repair_key(database, aggregate, key)
    return report


async def compare(session: Session, aggregate: Aggregate, keys: Sequence[str]) -> list[Difference]:
    """The columns of these aggregates that do not say what COUNT(*) says."""
    width = len(aggregate.counted)
    return [
        Difference(aggregate.name, counter.column, key, stored, counted)
        for key, *numbers in await session.fetch(_compare(aggregate), keys)
        for (_, counter), stored, counted in zip(aggregate.counted, numbers[:width], numbers[width:], strict=True)
        if (stored or 0) != counted
    ]


async def repair_key(database: Database, aggregate: Aggregate, key: str) -> bool:
    """Whether the key is exact now.

    It is moved as indexers move it. One that has not yet moved it waits for our lock, and its rows are not in what we
    count; one that has is waited for, and then its rows are. We hold the lock of no other key, so there is no deadlock.
    """
    async with database.transaction() as session:
        deltas = counts.Deltas()
        deltas.touch((counter, key) for _, counter in aggregate.counted)
        await counts.write(session, deltas)
        deltas = counts.Deltas()
        for difference in await compare(session, aggregate, [key]):
            move = difference.counted - (difference.stored or 0)
            deltas.by_key[aggregate.name, key][difference.column] += move
        await counts.write(session, deltas)
        return not await compare(session, aggregate, [key])


async def _sampled_keys(database: Database, aggregate: Aggregate, sample: int) -> AsyncIterator[list[str]]:
    async with database.transaction() as session:
        keys = [row["key"] for row in await session.fetch(_draw(aggregate), sample)]
    for start in range(0, len(keys), PORTION):
        yield keys[start : start + PORTION]


async def _all_keys(database: Database, aggregate: Aggregate) -> AsyncIterator[list[str]]:
    last = ""
    while True:
        async with database.transaction() as session:
            keys = [row["key"] for row in await session.fetch(_walk(aggregate), last)]
        if not keys:
            return
        yield keys
        last = keys[-1]


def _keys(found: Sequence[Difference]) -> list[str]:
    return sorted({difference.key for difference in found})


def _compare(aggregate: Aggregate) -> str:
    stored = ", ".join(f'old."{counter.column}"' for _, counter in aggregate.counted)
    counted = ", ".join(_count(table, counter) for table, counter in aggregate.counted)
    return f"""
SELECT asked.key, {stored}, {counted} FROM unnest($1::text[]) AS asked(key)
LEFT JOIN {{app}}.{aggregate.name} AS old ON old.{aggregate.key} = asked.key
"""


def _count(table: Table, counter: Counter) -> str:
    unless = f'AND "{counter.unless}" IS NOT TRUE' if counter.unless else ""
    count = f'(SELECT count(*) FROM {{app}}."{table.name}" WHERE "{counter.by}" = asked.key {unless})'
    if counter.column not in _MAY_STAY:
        return count
    return f'greatest({count}, CASE WHEN {_MAY_STAY[counter.column]} THEN old."{counter.column}" END)'


def _draw(aggregate: Aggregate) -> str:
    """Random blocks are read, one for every ten rows wanted and a hundred more, and random rows taken out of them."""
    known = f"SELECT FROM {{app}}.{aggregate.name} WHERE {aggregate.key} = drawn.key"
    parts = [f"SELECT key FROM {_drawn(aggregate.name, aggregate.key)}"]
    parts += [
        f"SELECT key FROM {_drawn(table.name, counter.by)} WHERE NOT EXISTS ({known})"
        for table, counter in aggregate.counted
    ]
    return f"{' UNION '.join(parts)} ORDER BY key"


def _drawn(table: str, column: str) -> str:
    blocks = f"(pg_relation_size('{{app}}.\"{table}\"') / current_setting('block_size')::int)"
    share = f"least(100, 100.0 * ($1::int / {_ROWS_IN_A_BLOCK} + {_LEAST_BLOCKS}) / greatest(1, {blocks}))::real"
    return f"""(
  SELECT "{column}" AS key FROM {{app}}."{table}" TABLESAMPLE SYSTEM ({share})
  WHERE "{column}" <> '' ORDER BY random() LIMIT $1
) AS drawn"""


def _walk(aggregate: Aggregate) -> str:
    """The next keys of the aggregate and of all that counts towards it, each found by index: a key is skipped in one
    step however many rows have it."""
    sources = [(aggregate.name, aggregate.key), *((table.name, counter.by) for table, counter in aggregate.counted)]
    following = ", ".join(
        f'(SELECT "{column}" FROM {{app}}."{table}" WHERE "{column}" > walk.key ORDER BY "{column}" LIMIT 1)'
        for table, column in sources
    )
    return f"""
WITH RECURSIVE walk(key, step) AS (
  SELECT $1::text, 0
  UNION ALL
  SELECT least({following})::text, step + 1 FROM walk WHERE key IS NOT NULL AND step < {PORTION}
)
SELECT key FROM walk WHERE key IS NOT NULL AND step > 0 ORDER BY step
"""


def _aggregates() -> Iterator[Aggregate]:
    tables = dict.fromkeys(table for handler in HANDLERS.values() for table in handler.tables)
    pairs = [(table, counter) for table in tables for counter in table.counters]
    for name, key in sorted({(counter.table, counter.key) for _, counter in pairs}):
        yield Aggregate(name, key, tuple(pair for pair in pairs if pair[1].table == name))


AGGREGATES = tuple(_aggregates())
COLUMNS: list[str] = sorted(
    f"{aggregate.name}.{counter.column}" for aggregate in AGGREGATES for _, counter in aggregate.counted
)
# the quotes of a post that was deleted once have gone (settlement.py), and count as long as the posts that quote it are
# there; not by EXISTS, for which a plan may read all posts
_MAY_STAY = {
    "quoteCount": """0 IN (
      (SELECT count(*) FROM {app}.post WHERE uri = asked.key),
      (SELECT count(*) - 1 FROM (SELECT FROM {own}.life WHERE life.uri = asked.key AND deleted LIMIT 1) AS once)
    )"""
}
_ROWS_IN_A_BLOCK = 10  # rather fewer than there are, so that a sample comes from many blocks
_LEAST_BLOCKS = 100
