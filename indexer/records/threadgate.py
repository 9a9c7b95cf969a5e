"""app.bsky.feed.threadgate: who may reply to a thread; it must stand beside its post, under the same key."""

from collections.abc import Iterator

from indexer.gates import THREAD_GATE, gated_post
from indexer.handler import Record, RecordHandler
from indexer.tables import Row


def rows(record: Record) -> Iterator[Row]:
    yield THREAD_GATE.row(**record.common_columns(), postUri=gated_post(record))


HANDLER = RecordHandler("app.bsky.feed.threadgate", (THREAD_GATE,), rows)
