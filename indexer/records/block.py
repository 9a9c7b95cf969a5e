"""app.bsky.graph.block"""

from collections.abc import Iterator

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table

ACTOR_BLOCK = Table("actor_block", (*COMMON_COLUMNS, "subjectDid"), unique=("creator", "subjectDid"))


def rows(record: Record) -> Iterator[Row]:
    yield ACTOR_BLOCK.row(**record.common_columns(), subjectDid=record.text("subject"))


HANDLER = RecordHandler("app.bsky.graph.block", (ACTOR_BLOCK,), rows, metric="block")
