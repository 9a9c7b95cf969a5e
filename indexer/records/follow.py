"""app.bsky.graph.follow"""

from collections.abc import Iterator

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.notifications import notification
from indexer.tables import Row, Table, counted_by_person

FOLLOW = Table(
    "follow",
    (*COMMON_COLUMNS, "subjectDid"),
    notifies=True,
    unique=("creator", "subjectDid"),
    counters=(
        counted_by_person("followersCount", by="subjectDid"),
        counted_by_person("followsCount", by="creator"),
    ),
)


def rows(record: Record) -> Iterator[Row]:
    yield FOLLOW.row(**record.common_columns(), subjectDid=record.text("subject"))


def notifications(record: Record) -> Iterator[Row]:
    yield notification(record, to=record.text("subject"), reason="follow")


HANDLER = RecordHandler("app.bsky.graph.follow", (FOLLOW,), rows, notifications, metric="follow")
