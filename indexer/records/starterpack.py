"""app.bsky.graph.starterpack: people and feeds for newcomers."""

from collections.abc import Iterator

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table

STARTER_PACK = Table("starter_pack", (*COMMON_COLUMNS, "name"))


def rows(record: Record) -> Iterator[Row]:
    yield STARTER_PACK.row(**record.common_columns(), name=record.text("name"))


HANDLER = RecordHandler("app.bsky.graph.starterpack", (STARTER_PACK,), rows)
