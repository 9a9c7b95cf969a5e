"""What is known of the keys of a batch: the live records, the deletions, and up to which rev a repo is reflected."""

from common.syntax import collection_of
from indexer import actors
from indexer.batch import Batch
from indexer.dating import Live
from indexer.lives import REMEMBERED
from indexer.plan import Known
from indexer.session import Session


async def lock_and_read(session: Session, batch: Batch) -> Known:
    """One writer a repo at a time; the row that locks is the AppView's own note of the last commit."""
    dids = sorted(batch.commits)
    commits = [batch.commits[did] for did in dids]
    await session.execute(_LOCK, dids, [cid for _, cid in commits], [rev for rev, _ in commits])
    await actors.lock(session, batch.accounts.keys() | batch.identities.keys() | {did for did, _, _ in batch.snapshots})
    uris = sorted(batch.newest)
    remembered = [uri for uri in uris if collection_of(uri) in REMEMBERED]
    registers = await session.fetch(_READ, uris, remembered)
    floors = await session.fetch(_READ_FLOORS, sorted(batch.commits.keys() | batch.accounts.keys()))
    return Known(
        live={row["uri"]: Live(row["rev"], row["cid"], row["time"]) for row in registers if row["cid"] is not None},
        dead={row["uri"]: row["rev"] for row in registers if row["cid"] is None},
        floors={row["did"]: row["floor_rev"] for row in floors},
        removed=frozenset(row["did"] for row in floors if row["removed"]),
    )


_LOCK = """
INSERT INTO {app}.actor_sync AS known (did, "commitCid", "repoRev")
SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
ON CONFLICT (did) DO UPDATE SET "commitCid" = EXCLUDED."commitCid", "repoRev" = EXCLUDED."repoRev"
WHERE coalesce(known."repoRev", '') COLLATE "C" < EXCLUDED."repoRev"
"""
_READ = """
SELECT uri, coalesce(rev, '') AS rev, cid, "indexedAt" AS time FROM {app}.record WHERE uri = ANY($1::text[])
UNION ALL
SELECT uri, rev, NULL, NULL FROM {own}.tombstone WHERE uri = ANY($1::text[])
UNION ALL
SELECT uri, max(rev), NULL, NULL FROM {own}.life WHERE uri = ANY($2::text[]) GROUP BY uri
"""
_READ_FLOORS = """
SELECT repo.did, floor_rev, actor.did IS NULL AS removed
FROM {own}.repo LEFT JOIN {app}.actor ON actor.did = repo.did COLLATE "default"
WHERE repo.did = ANY($1::text[]) AND floor_rev <> ''
"""
