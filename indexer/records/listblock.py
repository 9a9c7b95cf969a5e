"""app.bsky.graph.listblock: blocks everybody on a list."""

from collections.abc import Iterator

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table

LIST_BLOCK = Table("list_block", (*COMMON_COLUMNS, "subjectUri"), unique=("creator", "subjectUri"))


def rows(record: Record) -> Iterator[Row]:
    yield LIST_BLOCK.row(**record.common_columns(), subjectUri=record.text("subject"))


HANDLER = RecordHandler("app.bsky.graph.listblock", (LIST_BLOCK,), rows)
