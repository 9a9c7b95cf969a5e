"""Keeps what went of the records that posts of others are judged by (lives.py)."""

from collections.abc import Sequence

import orjson
from msgspec.structs import astuple

from common.syntax import authority_of, collection_of
from indexer.dating import UNDATED
from indexer.lives import Life, life
from indexer.session import Session, columns


async def ending(session: Session, uris: Sequence[str]) -> list[Life]:
    """The versions that are there now, and are about to go."""
    rows = await session.fetch(_ENDING, sorted(uris)) if uris else ()
    return [
        life(row["uri"], row["rev"], row["indexedAt"], collection_of(row["uri"]), orjson.loads(row["json"]))
        for row in rows
    ]


async def remember(session: Session, lives: Sequence[Life], dated: Sequence[str]) -> None:
    """What went, once what took its place is there: each version ends where the next one of its record begins.

    `dated`: records of which it has become known since when they are there.
    """
    if lives:
        await session.execute(_REMEMBER, *columns(sorted(astuple(one) for one in lives)))
    if lives or dated:
        await session.execute(_END, sorted({*dated, *(one.uri for one in lives)}))


async def place_ghosts(session: Session, lives: Sequence[Life]) -> None:
    """What is marked as deleted in a thread of its author's own: below which post it stood last."""
    if uris := sorted({one.uri for one in lives if one.root and authority_of(one.root) == authority_of(one.uri)}):
        await session.execute(_PLACE_GHOSTS, uris)


_ENDING = """
SELECT uri, coalesce(rev, '') AS rev, "indexedAt", json FROM {app}.record WHERE uri = ANY($1::text[])
"""
_REMEMBER = """
INSERT INTO {own}.life (uri, rev, since, parent, root, says)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
ON CONFLICT DO NOTHING
"""
# what a backfill repeats of a version whose time is known is no version of its own
_END = f"""
WITH version AS (
  SELECT uri, rev, since, says, right(rev, 1) = '{UNDATED}' AND (
    SELECT before.says FROM {{own}}.life AS before
    WHERE before.uri = life.uri AND before.rev < life.rev AND right(before.rev, 1) <> '{UNDATED}'
    ORDER BY before.rev DESC LIMIT 1
  ) IS NOT NULL AS is_repeated
  FROM {{own}}.life WHERE uri = ANY($1::text[])
),
span AS (
  SELECT version.uri, version.rev, lead(since, 1, record."indexedAt") OVER versions AS until,
    lead(says IS NULL, 1, false) OVER versions AS deleted
  FROM version LEFT JOIN {{app}}.record ON record.uri = version.uri COLLATE "default"
  WHERE NOT is_repeated
  WINDOW versions AS (PARTITION BY version.uri ORDER BY version.rev)
  UNION ALL
  SELECT uri, rev, '', false FROM version WHERE is_repeated
)
UPDATE {{own}}.life SET until = span.until, deleted = span.deleted
FROM span
WHERE life.uri = span.uri AND life.rev = span.rev AND life.says IS NOT NULL AND span.until IS NOT NULL
  AND (life.until, life.deleted) IS DISTINCT FROM (span.until, span.deleted)
"""
_PLACE_GHOSTS = """
WITH last AS (
  SELECT DISTINCT ON (uri, root) uri, root, parent FROM {own}.life
  WHERE uri = ANY($1::text[]) AND root IS NOT NULL
  ORDER BY uri, root, rev DESC
)
UPDATE {app}.op_thread_reply AS reply SET "parentUri" = last.parent
FROM last
WHERE reply."rootUri" = last.root AND reply.uri = last.uri COLLATE "default"
  AND "deletedAt" IS NOT NULL AND "parentUri" <> last.parent
"""
