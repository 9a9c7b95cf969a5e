"""Notification rows, built the same way by every record type."""

from collections.abc import Iterator

from common.syntax import authority_of
from indexer.handler import Record
from indexer.tables import Row, Table

NOTIFICATION = Table(
    "notification",
    ("did", "author", "recordUri", "recordCid", "reason", "reasonSubject", "sortAt"),
    owner="recordUri",
)


def notification(record: Record, *, to: str, reason: str, about: str | None = None, sort_at: str = "") -> Row:
    """Tell `to` about the record; `about` is their record that it is about."""
    return NOTIFICATION.row(
        did=to,
        author=record.did,
        recordUri=record.uri,
        recordCid=record.cid,
        reason=reason,
        reasonSubject=about,
        sortAt=sort_at or record.sort_at,
    )


def about_subject(record: Record, reason: str) -> Iterator[Row]:
    """For likes and reposts: to the subject's author, and to whose repost led there. Nobody hears of their own."""
    subject, via = record.text("subject", "uri"), record.optional_text("via", "uri")
    author = authority_of(subject)
    if author == record.did:
        return
    yield notification(record, to=author, reason=reason, about=subject)
    if via and (guide := authority_of(via)) != record.did:
        yield notification(record, to=guide, reason=f"{reason}-via-repost", about=via)
