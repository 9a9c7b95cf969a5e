"""app.bsky.graph.verification: one person vouches for the handle and name of another."""

from collections.abc import Iterator

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.notifications import notification
from indexer.tables import Row, Table

VERIFICATION = Table(
    "verification",
    (*COMMON_COLUMNS, "rkey", "subject", "handle", "displayName"),
    unique=("subject", "creator"),
    farewell="unverified",
)


def rows(record: Record) -> Iterator[Row]:
    yield VERIFICATION.row(
        **record.common_columns(),
        rkey=record.rkey,
        subject=record.text("subject"),
        handle=record.text("handle"),
        displayName=record.text("displayName"),
    )


def notifications(record: Record) -> Iterator[Row]:
    yield notification(record, to=record.text("subject"), reason="verified")


HANDLER = RecordHandler("app.bsky.graph.verification", (VERIFICATION,), rows, notifications)
