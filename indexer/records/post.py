"""app.bsky.feed.post: text, what it embeds, where it stands in a thread, and its place in feeds."""

from collections.abc import Iterator
from typing import Any

import orjson

from common.errors import BadInput
from common.syntax import authority_of
from indexer.embeds import EMBED_TABLES, embed_rows, quoted_post
from indexer.feed_items import FEED_ITEM
from indexer.gate_rules import mentions
from indexer.handler import COMMON_COLUMNS, Record, RecordHandler
from indexer.tables import Row, Table, counted, counted_by_person

POST = Table(
    "post",
    (
        *COMMON_COLUMNS,
        "text",
        "replyRoot",
        "replyRootCid",
        "replyParent",
        "replyParentCid",
        "langs",
        "tags",
    ),
    types={"langs": "jsonb", "tags": "jsonb"},
    notifies=True,
    counters=(
        counted("replyCount", by="replyParent", unless="violatesThreadGate"),
        counted_by_person("postsCount", by="creator"),
    ),
)
OP_THREAD_REPLY = Table(
    "op_thread_reply",
    ("rootUri", "parentUri", "uri", "deletedAt"),
    deleted_at="deletedAt",
    key=("rootUri", "uri"),
    keys='SELECT "replyRoot", uri FROM {app}.post WHERE uri',
)


def rows(record: Record) -> Iterator[Row]:
    yield POST.row(
        **record.common_columns(),
        text=record.text("text"),
        replyRoot=record.optional_text("reply", "root", "uri"),
        replyRootCid=record.optional_text("reply", "root", "cid"),
        replyParent=record.optional_text("reply", "parent", "uri"),
        replyParentCid=record.optional_text("reply", "parent", "cid"),
        langs=_json_list(record.find("langs")),
        tags=_json_list(record.find("tags")),
    )
    yield FEED_ITEM.row(
        uri=record.uri,
        cid=record.cid,
        type="post",
        postUri=record.uri,
        originatorDid=record.did,
        sortAt=record.sort_at,
    )
    yield from embed_rows(record)
    yield from _own_thread_rows(record)


def _own_thread_rows(record: Record) -> Iterator[Row]:
    """Replies that the author of a thread writes in it, so that they can be shown together."""
    root, parent = record.optional_text("reply", "root", "uri"), record.optional_text("reply", "parent", "uri")
    if root and parent and authority_of(root) == record.did:
        yield OP_THREAD_REPLY.row(rootUri=root, parentUri=parent, uri=record.uri, deletedAt=None)


def _json_list(values: Any) -> str | None:
    """An empty list is stored as none at all; jsonb has no NUL either, in a form that only shows here."""
    if values and any("\x00" in value for value in values):
        raise BadInput("not_storable", "NUL in langs or tags")
    return orjson.dumps(values).decode() if values else None


def concerns_others(record: Record) -> bool:
    """All other posts break no rule and tell nobody."""
    return bool(record.find("reply") or quoted_post(record.value) or mentions(record.value))


HANDLER = RecordHandler(
    "app.bsky.feed.post",
    (POST, FEED_ITEM, OP_THREAD_REPLY, *EMBED_TABLES),
    rows,
    concerns_others=concerns_others,
    metric="post",
)
