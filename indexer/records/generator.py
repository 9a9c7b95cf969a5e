"""app.bsky.feed.generator: a custom feed."""

from collections.abc import Iterator

import orjson

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table

FEED_GENERATOR = Table(
    "feed_generator", (*COMMON_COLUMNS, "feedDid", "displayName", "description", "descriptionFacets", "avatarCid")
)


def rows(record: Record) -> Iterator[Row]:
    facets = record.find("descriptionFacets")
    yield FEED_GENERATOR.row(
        **record.common_columns(),
        feedDid=record.text("did"),
        displayName=record.optional_text("displayName"),
        description=record.optional_text("description"),
        descriptionFacets=orjson.dumps(facets).decode() if facets else None,
        avatarCid=record.blob_cid("avatar"),
    )


HANDLER = RecordHandler("app.bsky.feed.generator", (FEED_GENERATOR,), rows)
