"""Notifications come and go with their records; who has muted a thread hears nothing of it."""

from collections.abc import Iterable, Sequence
from typing import Any

from indexer.session import Session, columns
from indexer.tables import Row, Table


async def tell(session: Session, rows: Iterable[Row]) -> None:
    """Insert notifications, each of which must be new: the records that they come from are locked."""
    if values := [row.values for row in rows]:
        await session.execute(_TELL, *columns(values))


async def forget(session: Session, uris: Sequence[str]) -> None:
    """Take back what these records told."""
    if uris:
        await session.execute('DELETE FROM {app}.notification WHERE "recordUri" = ANY($1::text[])', sorted(uris))


async def bid_farewell(session: Session, table: Table, gone: Sequence[Any]) -> None:
    """Tell the subjects of rows that went; what they were told before stays."""
    if table.farewell and gone:
        rows = [(row["subject"], row["creator"], row["uri"], row["cid"], table.farewell) for row in gone]
        await session.execute(_BID_FAREWELL, *columns(rows))


# a thread is muted by its root: the post that the notification is about, or the root above it
_TELL = """
INSERT INTO {app}.notification (did, author, "recordUri", "recordCid", reason, "reasonSubject", "sortAt")
SELECT new.* FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
  AS new(did, author, record, cid, reason, subject, time)
WHERE NOT EXISTS (
  SELECT 1 FROM {app}.thread_mute
  WHERE "mutedByDid" = new.did AND "rootUri" IN (
    SELECT coalesce(post."replyRoot", post.uri) FROM {app}.post WHERE post.uri = new.subject
  )
)
"""
_BID_FAREWELL = """
INSERT INTO {app}.notification (did, author, "recordUri", "recordCid", reason, "sortAt")
SELECT did, author, record, cid, reason, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS gone(did, author, record, cid, reason)
"""
