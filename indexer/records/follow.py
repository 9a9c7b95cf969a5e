"""app.bsky.graph.follow"""

from collections.abc import Iterator

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table, counted_by_person

FOLLOW = Table(
    "follow",
    (*COMMON_COLUMNS, "subjectDid"),
    unique=("creator", "subjectDid"),
    counters=(
        counted_by_person("followersCount", by="subjectDid"),
        counted_by_person("followsCount", by="creator"),
    ),
)


def rows(record: Record) -> Iterator[Row]:
    yield FOLLOW.row(**record.common_columns(), subjectDid=record.text("subject"))


HANDLER = RecordHandler("app.bsky.graph.follow", (FOLLOW,), rows, metric="follow")
