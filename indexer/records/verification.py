"""app.bsky.graph.verification: one person vouches for the handle and name of another."""

from collections.abc import Iterator

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table

VERIFICATION = Table(
    "verification", (*COMMON_COLUMNS, "rkey", "subject", "handle", "displayName"), unique=("subject", "creator")
)


def rows(record: Record) -> Iterator[Row]:
    yield VERIFICATION.row(
        **record.common_columns(),
        rkey=record.rkey,
        subject=record.text("subject"),
        handle=record.text("handle"),
        displayName=record.text("displayName"),
    )


HANDLER = RecordHandler("app.bsky.graph.verification", (VERIFICATION,), rows)
