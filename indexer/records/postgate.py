"""app.bsky.feed.postgate: who may quote a post; it must stand beside its post, under the same key."""

from collections.abc import Iterator

from indexer.gates import POST_GATE, gated_post
from indexer.handler import Record, RecordHandler
from indexer.tables import Row


def rows(record: Record) -> Iterator[Row]:
    yield POST_GATE.row(**record.common_columns(), postUri=gated_post(record))


HANDLER = RecordHandler("app.bsky.feed.postgate", (POST_GATE,), rows)
