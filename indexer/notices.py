"""Notifications come and go with their records; who has muted a thread hears nothing of it."""

from collections.abc import Sequence
from typing import Any

from indexer.notifications import NOTIFICATION
from indexer.session import Session, columns
from indexer.tables import Row, Table


async def tell(session: Session, rows: Sequence[Row]) -> None:
    """Insert notifications, each of which must be new: the records that they come from are locked."""
    muted = await _muted(session, rows) if rows else ()
    told = [row.values for row in rows if not muted or (row["did"], row["reasonSubject"]) not in muted]
    await session.copy(NOTIFICATION.name, NOTIFICATION.columns, told)


async def _muted(session: Session, rows: Sequence[Row]) -> set[tuple[str, str]]:
    """People, and the posts below which they want to hear of nothing."""
    people = await session.fetch(_MUTING, sorted({row["did"] for row in rows}))
    muting = {row["did"] for row in people}
    asked = sorted(
        {(row["did"], row["reasonSubject"]) for row in rows if row["reasonSubject"] and row["did"] in muting}
    )
    found = await session.fetch(_MUTED, *columns(asked)) if asked else ()
    return {(row["did"], row["subject"]) for row in found}


async def hush(session: Session, posts: Sequence[str]) -> None:
    """Take back what was told about these posts before they were known to be of a thread that is muted."""
    if posts:
        await session.execute(_HUSH, posts)


async def forget(session: Session, uris: Sequence[str]) -> None:
    """Take back what these records told."""
    if uris:
        await session.execute('DELETE FROM {app}.notification WHERE "recordUri" = ANY($1::text[])', sorted(uris))


async def bid_farewell(session: Session, table: Table, gone: Sequence[Any]) -> None:
    """Tell the subjects of rows that went; what they were told before stays."""
    if table.farewell and gone:
        rows = [(row["subject"], row["creator"], row["uri"], row["cid"], table.farewell) for row in gone]
        await session.execute(_BID_FAREWELL, *columns(rows))


_MUTING = 'SELECT DISTINCT "mutedByDid" AS did FROM {app}.thread_mute WHERE "mutedByDid" = ANY($1::text[])'
# a thread is muted by its root: a post or the root above it, of any version that there was
_ROOTS = """(
  SELECT coalesce("replyRoot", uri) AS root FROM {{app}}.post WHERE post.uri = {post}
  UNION
  SELECT coalesce(root, uri) FROM {{own}}.life WHERE life.uri = {post} AND says IS NOT NULL
)"""
_MUTED = f"""
SELECT DISTINCT did, subject
FROM unnest($1::text[], $2::text[]) AS asked(did, subject)
JOIN LATERAL {_ROOTS.format(post="subject")} AS thread ON true
JOIN {{app}}.thread_mute ON "mutedByDid" = did AND "rootUri" = root COLLATE "default"
"""
# what nobody has counted, nobody was told about
_HUSH = f"""
WITH muted AS (
  SELECT DISTINCT "mutedByDid" AS person, post_agg.uri
  FROM unnest($1::text[]) AS new(uri) JOIN {{app}}.post_agg ON post_agg.uri = new.uri
  JOIN LATERAL {_ROOTS.format(post="new.uri")} AS thread ON true
  JOIN {{app}}.thread_mute ON "rootUri" = root COLLATE "default"
)
DELETE FROM {{app}}.notification USING muted WHERE did = person AND "reasonSubject" = muted.uri
"""
_BID_FAREWELL = """
INSERT INTO {app}.notification (did, author, "recordUri", "recordCid", reason, "sortAt")
SELECT did, author, record, cid, reason, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS gone(did, author, record, cid, reason)
"""
