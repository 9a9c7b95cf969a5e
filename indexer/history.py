"""Keeps what went of the records that posts of others are judged by (lives.py)."""

from collections.abc import Sequence

import orjson
from msgspec.structs import astuple

from common.syntax import collection_of
from indexer.lives import Life, life
from indexer.session import Session, columns


async def ending(session: Session, uris: Sequence[str]) -> list[Life]:
    """The versions that are there now, and are about to go."""
    rows = await session.fetch(_ENDING, sorted(uris)) if uris else ()
    return [
        life(row["uri"], row["rev"], row["indexedAt"], collection_of(row["uri"]), orjson.loads(row["json"]))
        for row in rows
    ]


async def remember(session: Session, lives: Sequence[Life]) -> None:
    """What went, once what took its place is there: each version ends where the next one of its record begins."""
    if lives:
        await session.execute(_REMEMBER, *columns(sorted(astuple(one) for one in lives)))
        await session.execute(_END, sorted({one.uri for one in lives}))


_ENDING = """
SELECT uri, coalesce(rev, '') AS rev, "indexedAt", json FROM {app}.record WHERE uri = ANY($1::text[])
"""
_REMEMBER = """
INSERT INTO {own}.life (uri, rev, since, parent, root, says)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
ON CONFLICT DO NOTHING
"""
_END = """
UPDATE {own}.life SET until = next.since, deleted = next.is_deletion
FROM (
  SELECT life.uri, life.rev, life.says, lead(since, 1, record."indexedAt") OVER versions AS since,
    lead(says IS NULL, 1, false) OVER versions AS is_deletion
  FROM {own}.life LEFT JOIN {app}.record ON record.uri = life.uri COLLATE "default"
  WHERE life.uri = ANY($1::text[])
  WINDOW versions AS (PARTITION BY life.uri ORDER BY life.rev)
) AS next
WHERE life.uri = next.uri AND life.rev = next.rev AND next.says IS NOT NULL AND next.since IS NOT NULL
  AND (life.until, life.deleted) IS DISTINCT FROM (next.since, next.is_deletion)
"""
