"""app.bsky.graph.listitem: a person on a list; only the list's owner may put them there."""

from collections.abc import Iterator

from common.errors import BadInput
from common.syntax import authority_of
from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table

LIST_ITEM = Table("list_item", (*COMMON_COLUMNS, "subjectDid", "listUri"), unique=("listUri", "subjectDid"))


def rows(record: Record) -> Iterator[Row]:
    list_uri = record.text("list")
    if authority_of(list_uri) != record.did:
        raise BadInput("foreign_subject", "the list belongs to somebody else")
    yield LIST_ITEM.row(**record.common_columns(), subjectDid=record.text("subject"), listUri=list_uri)


HANDLER = RecordHandler("app.bsky.graph.listitem", (LIST_ITEM,), rows)
