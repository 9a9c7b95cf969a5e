"""app.bsky.graph.referencelistoptout: asks to be left out of a reference list. Known to AppViews from 0.0.280 on."""

import re
from collections.abc import Iterator

from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table

REFERENCE_LIST_OPT_OUT = Table(
    "reference_list_opt_out", (*COMMON_COLUMNS, "subjectUri"), unique=("creator", "subjectUri")
)
_LIST = re.compile(r"at://did:[a-z]+:[^/?#]+/app\.bsky\.graph\.list/[^/?#]+")


def rows(record: Record) -> Iterator[Row]:
    """Only for a list that is named by its DID; of others there is no more than the record."""
    subject = record.text("subject")
    if _LIST.fullmatch(subject):
        yield REFERENCE_LIST_OPT_OUT.row(**record.common_columns(), subjectUri=subject)


HANDLER = RecordHandler("app.bsky.graph.referencelistoptout", (REFERENCE_LIST_OPT_OUT,), rows, since="0.0.280")
