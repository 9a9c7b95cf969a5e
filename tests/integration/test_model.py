"""The tables are those that a slow and plain model works out, whatever the history, its order and its batches.

EXAMPLES=1000 tries so many worlds with each test, other ones each time; `make sweep` does for minutes.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator

import asyncpg
from hypothesis import HealthCheck, Phase, given, settings

from tests.arrivals import Arrivals, arrivals, shortened
from tests.indexing import Index
from tests.model import COVERED, Row, Tables, tables

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
STEPS = 40 if EXAMPLES else 20

try_some = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@try_some
@given(arrived=arrivals(in_order=True, steps=STEPS))
async def test_what_happened_in_its_order_gives_the_tables_of_the_model(index: Index, arrived: Arrivals) -> None:
    await compare(index, arrived)


@try_some
@given(arrived=arrivals(in_order=False, steps=STEPS))
async def test_what_happened_in_any_order_gives_the_tables_of_the_model(index: Index, arrived: Arrivals) -> None:
    await compare(index, arrived)


async def compare(index: Index, arrived: Arrivals) -> None:
    await clear(index.pool)
    mutes = [(root, who, "") for who, root in sorted(arrived.mutes)]
    await index.pool.executemany("INSERT INTO bsky.thread_mute VALUES ($1, $2, $3)", mutes)
    for batch in arrived.batches:
        await index.apply(*batch)
    wanted, found = tables(arrived.events, arrived.mutes), await index.everything()
    wrong = "\n".join(differences(wanted, found))
    assert not wrong, f"the model has (-), the database has (+)\n{shortened(wrong)}"
    unplaced = await index.pool.fetch("SELECT uri FROM sluice_bsky.unplaced")
    assert {uri for (uri,) in unplaced} == {row["uri"] for row in wanted["post"] if row["invalidReplyRoot"]}


def differences(wanted: Tables, found: Tables) -> Iterator[str]:
    for table in COVERED:
        ours, theirs = (Counter(map(text, rows.get(table, []))) for rows in (wanted, found))
        yield from (f"- {table} {row}" for row in (ours - theirs).elements())
        yield from (f"+ {table} {row}" for row in (theirs - ours).elements())


def text(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


async def clear(pool: asyncpg.Pool) -> None:
    names = await pool.fetch(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('bsky', 'sluice_bsky')"
        " AND tablename NOT IN ('migration', 'view_param') AND tablename NOT LIKE 'kysely%'"
    )
    await pool.execute(";".join(f'DELETE FROM "{schema}"."{table}"' for schema, table in names))
