"""Whatever the order, the batches and the repetitions in which events arrive, the tables come out the same.

EXAMPLES=1000 tries so many histories, other ones each time.
"""

import os
from collections.abc import Sequence

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.events import StreamEvent
from tests.factories import BLOCK, FOLLOW, LIKE, POST, PROFILE, REPOST, cut
from tests.histories import DEEDS, history
from tests.indexing import Index
from tests.rows import Rows

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
REGISTERS = (LIKE, REPOST, FOLLOW, BLOCK, PROFILE)
THREADS = (POST, POST, LIKE, REPOST)
# an actor's time is that of whatever happened to come first of them
CLOCKS = {"actor": ["indexedAt"], "sluice.handle_check": ["time"]}

try_some = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Arrivals = tuple[list[StreamEvent], list[list[StreamEvent]]]


@st.composite
def arrivals(draw: st.DrawFn, collections: Sequence[str], deeds: Sequence[str]) -> Arrivals:
    """What happened, and the batches in which it arrives: shuffled, and some of it twice."""
    events = history(lambda choices: draw(st.sampled_from(choices)), draw(st.integers(2, 10)), collections, deeds)
    again = draw(st.lists(st.sampled_from(events), max_size=3)) if events else []
    order = draw(st.permutations([*events, *again]))
    return events, cut(order, draw(st.lists(st.integers(1, 6), max_size=8)))


async def outcome(index: Index, batches: Sequence[Sequence[StreamEvent]]) -> Rows:
    """Of these batches alone."""
    await clear(index.pool)
    for batch in batches:
        await index.apply(*batch)
    tables = await index.everything(without=CLOCKS)
    tables.pop("sluice.resync", None)  # jobs, which whoever saw an account come back has to do
    tables.pop("sluice.life", None)  # a version that a snapshot repeats may be known by either rev
    return tables


async def clear(pool: asyncpg.Pool) -> None:
    tables = await pool.fetch(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('bsky', 'sluice_bsky')"
        " AND tablename NOT IN ('migration', 'view_param') AND tablename NOT LIKE 'kysely%'"
    )
    await pool.execute(";".join(f'DELETE FROM "{schema}"."{table}"' for schema, table in tables))


@try_some
@given(arrived=arrivals(REGISTERS, DEEDS))
async def test_records_that_come_go_and_meet_end_the_same_in_any_order(index: Index, arrived: Arrivals) -> None:
    events, batches = arrived
    assert await outcome(index, batches) == await outcome(index, [[event] for event in events])


@try_some
@given(arrived=arrivals(THREADS, ("create",) * 4 + ("delete", "snapshot", "account")))
async def test_threads_that_grow_and_shrink_end_the_same_in_any_order(index: Index, arrived: Arrivals) -> None:
    events, batches = arrived
    assert await outcome(index, batches) == await outcome(index, [[event] for event in events])
