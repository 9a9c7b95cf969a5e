"""What thread gates and post gates have in common."""

from common.errors import BadInput
from common.syntax import authority_of
from indexer.handler import COMMON_COLUMNS, Record
from indexer.tables import Table

THREAD_GATE = Table("thread_gate", (*COMMON_COLUMNS, "postUri"), unique=("postUri",))
POST_GATE = Table("post_gate", (*COMMON_COLUMNS, "postUri"), unique=("postUri",))
GATE_TABLES = (THREAD_GATE, POST_GATE)


def gated_post(record: Record) -> str:
    """The URI of the post that this gate is for; only its author, under its own key, may gate a post."""
    uri = record.text("post")
    if authority_of(uri) != record.did or uri.rpartition("/")[2] != record.rkey:
        raise BadInput("foreign_subject", "a gate belongs beside its post")
    return uri
