"""Rows made anew from the records that are stored, in place, while indexers write: for a table that was damaged, or for
code that makes other rows than the code before it.

Records and their revs stay as they are. Where their rows changed, what they count towards is counted again.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
from msgspec import Raw

from common.collection_filter import CollectionFilter
from common.delivery import Delivery
from common.errors import BadInput
from common.events import CreateEvent
from common.syntax import collection_of
from indexer.audit import AGGREGATES, compare, repair_key
from indexer.batch import Batch, Item
from indexer.counts import Deltas
from indexer.counts import write as write_counts
from indexer.database import Database, write
from indexer.plan import Plan, counted_keys, rewrite
from indexer.records import HANDLERS
from indexer.session import Session
from indexer.tables import Row, Table
from indexer.version import version_of

PORTION = 200
TRIES = 10


@dataclass
class Reindexed:
    """`last`: up to which URI. `refused`: records that are stored and could not be indexed today; their rows stay."""

    records: int = 0
    refused: int = 0
    recounted: int = 0
    last: str = ""


async def reindex(
    database: Database, is_wanted: CollectionFilter, done: Reindexed, on_portion: Callable[[], None]
) -> None:
    """All records after `done.last`, in the order of their URIs; interrupted, it goes on from there."""
    while uris := await _next(database, done.last):
        wanted = [uri for uri in uris if collection_of(uri) in HANDLERS and is_wanted(collection_of(uri))]
        if wanted:
            await _beside_indexers(partial(_reindex, database, wanted, done))
        done.last = uris[-1]
        on_portion()


async def _beside_indexers(portion: Callable[[], Awaitable[None]]) -> None:
    """Of two that wait for each other Postgres ends one, which tries again, as an indexer would."""
    for _ in range(TRIES - 1):
        try:
            return await portion()
        except asyncpg.DeadlockDetectedError:
            continue
    await portion()


async def _next(database: Database, after: str) -> list[str]:
    async with database.transaction() as session:
        return [row["uri"] for row in await session.fetch(_URIS, after, PORTION)]


async def _reindex(database: Database, uris: Sequence[str], done: Reindexed) -> None:
    batch, refused = Batch(), 0
    async with database.transaction() as session:
        await session.fetch(_LOCK, uris)
        wanted = Plan()
        for row in await session.fetch(_RECORDS, uris):
            event = _event(row)
            version = version_of(event, row["uri"])
            if isinstance(version, BadInput):
                refused += 1
                continue
            batch.newest[row["uri"]] = Item(Delivery(b"", None), event)
            rewrite(wanted, row["uri"], version, await _standing(session, row["uri"]))
        deltas = Deltas()
        await write(session, wanted, deltas)
        await write_counts(session, deltas)
    await database.settle(batch)
    done.refused += refused
    done.records += len(batch.newest)
    done.recounted += await _recount(database, _counted(row for rows in wanted.rows.values() for row in rows))


def _counted(rows: Iterable[Row]) -> Mapping[str, set[str]]:
    """What these rows count towards: keys, by aggregate. Where one was missing, it was counted all the same."""
    keys: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for counter, key in counted_keys(row):
            keys[counter.table].add(key)
    return keys


async def _recount(database: Database, keys: Mapping[str, set[str]]) -> int:
    """How many of them were not what there is."""
    wrong = 0
    for aggregate in AGGREGATES:
        async with database.transaction() as session:
            found = await compare(session, aggregate, sorted(keys.get(aggregate.name, ())))
        for key in sorted({difference.key for difference in found}):
            wrong += 1
            await repair_key(database, aggregate, key)
    return wrong


async def _standing(session: Session, uri: str) -> set[Table]:
    """Tables that tell people when a row goes: one that stands there for this record is left alone."""
    tables = [table for table in HANDLERS[collection_of(uri)].tables if table.farewell]
    statement = 'SELECT 1 FROM {app}."{name}" WHERE "{owner}" = ANY($1::text[])'
    return {
        table
        for table in tables
        if await session.fetch(statement.replace("{name}", table.name).replace("{owner}", table.owner), [uri])
    }


def _event(row: Any) -> CreateEvent:
    _, _, did, collection, rkey = row["uri"].split("/", 4)
    return CreateEvent(
        seq=0,  # its time is known, as far as it is
        time=row["indexedAt"],
        did=did,
        commit="",
        rev=row["rev"] or "",
        collection=collection,
        rkey=rkey,
        cid=row["cid"],
        record=Raw(row["json"].encode()),
    )


_URIS = "SELECT uri FROM {app}.record WHERE uri > $1 ORDER BY uri LIMIT $2"
# as an indexer locks them: the AppView's note of the last commit is the lock of a repo
_LOCK = """
SELECT 1 FROM {app}.actor_sync WHERE did = ANY(SELECT split_part(uri, '/', 3) FROM unnest($1::text[]) AS of(uri))
ORDER BY did COLLATE "C" FOR UPDATE
"""
_RECORDS = 'SELECT uri, cid, json, "indexedAt", rev FROM {app}.record WHERE uri = ANY($1::text[]) ORDER BY uri'
