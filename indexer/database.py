"""A plan becomes a bounded number of set statements in one transaction; nothing else speaks SQL for records.

Every statement's keys are sorted and the tables come in one order, so that indexers cannot deadlock. A batch first
locks its repos (their actor_sync rows), which makes what it then reads of their records exact.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass

import asyncpg
from msgspec import structs

from common.events import LabelEvent
from indexer import (
    actors,
    announcements,
    counts,
    dead_letters,
    duplicates,
    history,
    labels,
    notices,
    post_flags,
    settlement,
    snapshots,
)
from indexer.batch import Batch
from indexer.dead_letters import DeadLetter
from indexer.embeds import quotes_lost_before
from indexer.feed_items import FEED_ITEM
from indexer.last_writer import plan
from indexer.names import Names
from indexer.plan import Plan
from indexer.records import APPVIEWS, collections_of
from indexer.records.post import POST
from indexer.registers import lock_and_read
from indexer.session import Session, columns
from indexer.tables import Table
from indexer.version import RECORD_COLUMNS


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch did: outcomes of its record events, one each, and rows changed."""

    outcomes: Mapping[str, int]
    rows: int


class Database:
    """Applies batches. Safe behind PgBouncer in transaction mode: no state outlives a transaction."""

    def __init__(self, pool: asyncpg.Pool, schema: str, appview: str = APPVIEWS[0]) -> None:
        self._pool = pool
        self._collections = collections_of(appview)
        self._names = Names(schema)

    async def apply(self, batch: Batch, stream: str) -> Applied:
        """All of the batch, or nothing. Applying it again changes nothing. `settle` must follow before it is acked."""
        async with self.transaction() as session:
            known = await lock_and_read(session, batch)
            wanted = plan(batch, known, self._collections)
            deltas = counts.Deltas()
            await write(session, wanted, deltas)
            await write(session, await snapshots.advance(session, batch.snapshots), deltas)
            await actors.apply(session, batch, known.floors, known.removed)
            await dead_letters.bury(
                session, [DeadLetter(stream, item, "not_storable", "22021", why) for item, why in wanted.poison]
            )
            await counts.write(session, deltas)
        return Applied(wanted.outcomes, session.rows)

    async def settle(self, batch: Batch) -> int:
        """What an applied batch means for the rows of others. Rows changed; settling again changes nothing."""
        found: dict[str, None] = {}
        while True:
            try:
                async with self.transaction() as session:
                    await settlement.settle(session, batch, found)
            except settlement.MorePosts as more:
                found |= dict.fromkeys(more.uris)
            else:
                return session.rows

    async def apply_labels(self, events: Sequence[LabelEvent], letters: Sequence[DeadLetter]) -> int:
        """`letters`: entries of which some labels are not among the events. The answer: rows changed."""
        async with self.transaction() as session:
            await labels.apply(session, events)
            await dead_letters.bury(session, letters)
        return session.rows

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with self._pool.acquire() as connection:
            await connection.execute(_BEGIN)
            try:
                yield Session(connection, self._names)
            except BaseException:
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")

    async def bury(self, letter: DeadLetter) -> None:
        """The culprit of a refused batch goes to the dead letters, with its bytes."""
        async with self.transaction() as session:
            await dead_letters.bury(session, [letter])


async def write(session: Session, wanted: Plan, deltas: counts.Deltas) -> None:
    """Removals first, so that an edit (remove and insert) lands whole. `deltas` learns what really came and went.

    The repos concerned must be locked.
    """
    going = _going(wanted, POST)
    await post_flags.lock_posts(session, going | wanted.ungated)
    if shown := sorted(_going(wanted, FEED_ITEM)):
        await session.execute(_FORGET, shown)
    if wanted.tombstones:
        await session.execute(_BURY_KEYS, *columns([astuple(stone) for stone in wanted.tombstones]))
    lives = [*wanted.lives, *await history.ending(session, wanted.ending)]
    freed: list[str] = []
    removed = await session.remove(wanted.removed)
    for subject in quotes_lost_before(removed):
        deltas.by_key["post_agg", subject]["quoteCount"] -= 1
    for table, gone in removed.items():
        deltas.count(table, gone, -1)
        freed += [row[table.owner] for row in gone] if table.unique else []
        await notices.bid_farewell(session, table, gone)
    await notices.forget(session, [uri for table, uris in wanted.removed.items() if table.notifies for uri in uris])
    await _write_records(session, wanted)
    await history.remember(session, lives, wanted.dated)
    await duplicates.insert(session, wanted.rows, deltas)
    promoted = await duplicates.promote(session, freed, deltas)
    if wanted.ghosts:
        ghosts = [wanted.ghosts[key] for key in sorted(wanted.ghosts)]
        await session.insert({ghosts[0].table: ghosts})
    await history.place_ghosts(session, lives)
    written = {row["uri"] for row in wanted.rows.get(POST, ())}
    await post_flags.show_gates(session, wanted.ungated | written)
    if wanted.unplaced:
        await session.execute(_NOTE_UNPLACED, *columns(sorted(wanted.unplaced.items())))
    notifications = wanted.notifications | promoted
    await notices.tell(
        session, [row for uri in sorted(deltas.gained & notifications.keys()) for row in notifications[uri]]
    )
    await announcements.announce(session, wanted.announcements)
    deltas.touch(wanted.touched)


def _going(wanted: Plan, table: Table) -> set[str]:
    return set(wanted.removed.get(table, ()))


async def _write_records(session: Session, wanted: Plan) -> None:
    if wanted.deleted:
        await session.execute("DELETE FROM {app}.record WHERE uri = ANY($1::text[])", wanted.deleted)
    if contested := sorted({uri for table, uris in wanted.removed.items() if table.unique for uri in uris}):
        await session.execute("DELETE FROM {app}.duplicate_record WHERE uri = ANY($1::text[])", contested)
    if wanted.lifted:
        await session.execute(_LIFT, *columns(wanted.lifted))
    if wanted.revived:
        await session.execute("DELETE FROM {own}.tombstone WHERE uri = ANY($1::text[])", wanted.revived)
    if wanted.rewritten:
        rewritten = [(row.uri, row.cid, row.json, row.indexed_at, row.rev) for row in wanted.rewritten]
        await session.execute(_REWRITE, *columns(rewritten))
    await session.copy("record", RECORD_COLUMNS, [structs.astuple(row) for row in wanted.records])


# Every statement looks up keys of a batch, so an index is right however large the tables are. Plans are kept, and one
# that was made while a table was small would go on reading all of it. The locks of a client that vanished without a
# word must not outlive it by the hours that TCP takes to notice.
_BEGIN = """
BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
SET LOCAL jit = off; SET LOCAL idle_in_transaction_session_timeout = '60s'
"""
# what is noted of posts and reposts
_FORGET = """
WITH place AS (DELETE FROM {own}.unplaced WHERE uri = ANY($1::text[])),
lost AS (DELETE FROM {own}.lost WHERE uri = ANY($1::text[]))
DELETE FROM {own}.forbidden WHERE uri = ANY($1::text[])
"""
_NOTE_UNPLACED = """
INSERT INTO {own}.unplaced SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (uri) DO UPDATE SET root = EXCLUDED.root
"""
_BURY_KEYS = """
INSERT INTO {own}.tombstone AS known (uri, did, rev) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
ON CONFLICT (uri) DO UPDATE SET rev = EXCLUDED.rev
"""
_REWRITE = """
UPDATE {app}.record SET cid = new.cid, json = new.json, "indexedAt" = new.time, rev = new.rev
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS new(uri, cid, json, time, rev)
WHERE record.uri = new.uri
"""
_LIFT = """
UPDATE {app}.record SET rev = new.rev FROM unnest($1::text[], $2::text[]) AS new(uri, rev) WHERE record.uri = new.uri
"""
