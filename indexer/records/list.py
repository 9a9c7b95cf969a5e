"""app.bsky.graph.list: a list of people, for moderation or for reading."""

from collections.abc import Iterator

import orjson

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table

LIST = Table("list", (*COMMON_COLUMNS, "name", "purpose", "description", "descriptionFacets", "avatarCid"))


def rows(record: Record) -> Iterator[Row]:
    facets = record.find("descriptionFacets")
    yield LIST.row(
        **record.common_columns(),
        name=record.text("name"),
        purpose=record.text("purpose"),
        description=record.optional_text("description"),
        descriptionFacets=orjson.dumps(facets).decode() if facets else None,
        avatarCid=record.blob_cid("avatar"),
    )


HANDLER = RecordHandler("app.bsky.graph.list", (LIST,), rows)
