"""app.bsky.feed.like: of a post, a feed generator, a labeler or any other record."""

from collections.abc import Iterator

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.notifications import about_subject
from indexer.tables import Row, Table, counted

LIKE = Table(
    "like",
    (*COMMON_COLUMNS, "subject", "subjectCid", "via", "viaCid"),
    notifies=True,
    unique=("subject", "creator"),
    counters=(counted("likeCount", by="subject"),),
)


def rows(record: Record) -> Iterator[Row]:
    yield LIKE.row(
        **record.common_columns(),
        subject=record.text("subject", "uri"),
        subjectCid=record.text("subject", "cid"),
        via=record.optional_text("via", "uri"),
        viaCid=record.optional_text("via", "cid"),
    )


def notifications(record: Record) -> Iterator[Row]:
    return about_subject(record, "like")


HANDLER = RecordHandler("app.bsky.feed.like", (LIKE,), rows, notifications, metric="like")
