"""app.bsky.labeler.service: only the record `self` declares a labeler."""

from collections.abc import Iterator

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table

LABELER = Table("labeler", COMMON_COLUMNS)


def rows(record: Record) -> Iterator[Row]:
    if record.rkey == "self":
        yield LABELER.row(**record.common_columns())


HANDLER = RecordHandler("app.bsky.labeler.service", (LABELER,), rows)
