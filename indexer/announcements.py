"""Notifications that a record makes once, by its first version: no later one repeats them, nothing takes them back."""

from collections.abc import Sequence

from indexer.session import Session, columns
from indexer.tables import Values
from indexer.version import Announcement


async def announce(session: Session, announcements: Sequence[Announcement]) -> None:
    """Each once, as the earliest version says; a time that a live event tells counts before one that is its createdAt.

    The repos of the records must be locked.
    """
    first: dict[Values, Values] = {}
    for told in sorted(announcements, key=_earliest):
        row = tuple(told.row[column] for column in _COLUMNS)
        first.setdefault(row[:5], (*row, told.undated))
    if first:
        arguments = columns(sorted(first.values()))
        await session.execute(_DATE, *arguments)
        await session.execute(_ANNOUNCE, *arguments)


def _earliest(told: Announcement) -> tuple[bool, str, str]:
    return told.undated is None, told.row["sortAt"], told.row["recordCid"]


_COLUMNS = ("did", "author", "recordUri", "reason", "reasonSubject", "recordCid", "sortAt")
_NEW = """
unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
  AS new(did, author, uri, reason, subject, cid, time, undated)
"""
_SAME = """
"recordUri" = new.uri AND known.did = new.did AND known.reason = new.reason AND "reasonSubject" = new.subject
"""
_DATE = f"""
UPDATE {{app}}.notification AS known SET "recordCid" = new.cid, "sortAt" = new.time FROM {_NEW}
WHERE {_SAME} AND (
  "sortAt" > new.time AND new.undated IS NOT NULL OR "sortAt" = new.time AND "recordCid" > new.cid
  OR "sortAt" < new.time AND "sortAt" = new.undated
)
"""
_ANNOUNCE = f"""
INSERT INTO {{app}}.notification (did, author, "recordUri", reason, "reasonSubject", "recordCid", "sortAt")
SELECT did, author, uri, reason, subject, cid, time FROM {_NEW}
WHERE NOT EXISTS (SELECT FROM {{app}}.notification AS known WHERE {_SAME})
"""
