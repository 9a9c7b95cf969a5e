"""A snapshot deletes what it lacks, but only once every part of it has been applied.

Its records have been lifted to the snapshot's rev, so what is still below that rev was not in it.
"""

from collections.abc import Mapping
from typing import Any

from common.collection_filter import CollectionFilter
from common.syntax import collection_of
from indexer.batch import Layout, SnapshotProgress, ranges
from indexer.lives import REMEMBERED
from indexer.passing import gone_since
from indexer.plan import Plan, remove
from indexer.post_flags import post_beside
from indexer.session import Session


async def advance(session: Session, progress: Mapping[Layout, SnapshotProgress]) -> Plan:
    """Note the parts that this batch applied; the answer is what complete snapshots lack, planned for removal.

    The repos are locked by the batch, so of two indexers that apply the last parts one sees them all.
    """
    wanted = Plan()
    for layout, parts in sorted(progress.items()):
        runs = ranges(parts.indexes)
        noted = await session.fetch(
            _NOTE, *layout, [first for first, _ in runs], [end for _, end in runs], parts.collections
        )
        if noted and noted[0]["complete"]:
            gone = await _lacking(session, layout, noted[0]["collections"])
            remove(wanted, gone)
            remembered = [uri for uri in gone if collection_of(uri) in REMEMBERED]
            wanted.ending += remembered
            wanted.ungated |= {post_beside(uri) for uri in remembered}
            wanted.lives += [gone_since(uri, layout[1]) for uri in remembered]
            await _close(session, layout)
    return wanted


async def _lacking(session: Session, layout: Layout, collections: list[str]) -> list[str]:
    did, rev, _ = layout
    is_ours = CollectionFilter(tuple(collections))
    older: list[Any] = await session.fetch(_OLDER, did, rev)
    return [row["uri"] for row in older if is_ours(collection_of(row["uri"]))]


async def _close(session: Session, layout: Layout) -> None:
    """From here on everything at or below the snapshot's rev is reflected, without any tombstones."""
    did, rev, _ = layout
    await session.execute(_RAISE_FLOOR, did, rev)
    await session.execute("DELETE FROM {own}.tombstone WHERE did = $1 AND rev <= $2", did, rev)
    await session.execute("DELETE FROM {own}.snapshot WHERE did = $1 AND rev <= $2", did, rev)


# the closing event has the index after the last record's, so a whole snapshot covers records + 1 numbers
_NOTE = """
INSERT INTO {own}.snapshot AS known (did, rev, records, seen, collections)
SELECT $1, $2, $3, (SELECT range_agg(int4range(first, past)) FROM unnest($4::int[], $5::int[]) AS run(first, past)), $6
WHERE NOT EXISTS (SELECT 1 FROM {own}.repo WHERE did = $1 AND floor_rev >= $2)
ON CONFLICT (did, rev, records) DO UPDATE
SET seen = known.seen + EXCLUDED.seen, collections = coalesce(EXCLUDED.collections, known.collections)
RETURNING seen @> int4range(0, $3 + 1) AS complete, collections
"""
_OLDER = """
SELECT uri FROM {app}.record WHERE did = $1 AND coalesce(rev, '') COLLATE "C" < $2 ORDER BY uri
"""
_RAISE_FLOOR = """
INSERT INTO {own}.repo AS known (did, floor_rev) VALUES ($1, $2)
ON CONFLICT (did) DO UPDATE SET floor_rev = EXCLUDED.floor_rev WHERE known.floor_rev < EXCLUDED.floor_rev
"""
