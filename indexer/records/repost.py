"""app.bsky.feed.repost: shows in the feeds of the person's followers even when it repeats an earlier repost."""

from collections.abc import Iterator

from indexer.feed_items import FEED_ITEM
from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.notifications import about_subject
from indexer.tables import Row, Table, counted

REPOST = Table(
    "repost",
    (*COMMON_COLUMNS, "subject", "subjectCid", "via", "viaCid"),
    notifies=True,
    unique=("creator", "subject"),
    counters=(counted("repostCount", by="subject"),),
)


def rows(record: Record) -> Iterator[Row]:
    subject = record.text("subject", "uri")
    yield REPOST.row(
        **record.common_columns(),
        subject=subject,
        subjectCid=record.text("subject", "cid"),
        via=record.optional_text("via", "uri"),
        viaCid=record.optional_text("via", "cid"),
    )
    yield FEED_ITEM.row(
        uri=record.uri,
        cid=record.cid,
        type="repost",
        postUri=subject,
        originatorDid=record.did,
        sortAt=record.sort_at,
    )


def notifications(record: Record) -> Iterator[Row]:
    return about_subject(record, "repost")


HANDLER = RecordHandler("app.bsky.feed.repost", (REPOST, FEED_ITEM), rows, notifications, metric="repost")
