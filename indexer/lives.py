"""What went of the records that posts of others are judged by: what others could see of it, and from when on."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from msgspec import Struct

from indexer.gate_rules import MENTION, mentions

POST, THREAD_GATE, POST_GATE = "app.bsky.feed.post", "app.bsky.feed.threadgate", "app.bsky.feed.postgate"
FOLLOW, LIST_ITEM = "app.bsky.graph.follow", "app.bsky.graph.listitem"
GATES = (THREAD_GATE, POST_GATE)
REMEMBERED = (POST, THREAD_GATE, POST_GATE, FOLLOW, LIST_ITEM)


class Life(Struct, frozen=True):
    """A version of a record that is not there any more, or (`says` is None) that it was deleted, at `rev`.

    It ends where the next one begins. `says` is JSON, in the form of the record. `parent` and `root` are a post's.
    """

    uri: str
    rev: str
    since: str
    parent: str | None
    root: str | None
    says: str | None


def life(uri: str, rev: str, since: str, collection: str, value: dict[str, Any]) -> Life:
    """Of a valid record of a collection in REMEMBERED."""
    reply = (value.get("reply") if collection == POST else None) or {"parent": {}, "root": {}}
    said = orjson.dumps(_SEEN[collection](value)).decode()
    return Life(uri, rev, since, reply["parent"].get("uri"), reply["root"].get("uri"), said)


def end(uri: str, rev: str, since: str) -> Life:
    return Life(uri, rev, since, None, None, None)


def _mentions_alone(post: dict[str, Any]) -> dict[str, Any]:
    features = [{"$type": MENTION, "did": did} for did in mentions(post)]
    return {"facets": [{"features": features}]} if features else {}


_SEEN: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    POST: _mentions_alone,
    THREAD_GATE: lambda gate: gate,
    POST_GATE: lambda gate: gate,
    FOLLOW: lambda follow: {"subject": follow["subject"]},
    LIST_ITEM: lambda item: {"list": item["list"], "subject": item["subject"]},
}
