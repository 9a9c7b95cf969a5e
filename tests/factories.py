"""Makers of people, records and events: each is as the network would have it unless a test says otherwise."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from msgspec import UNSET, Raw

from common.dag_cbor import cid_of, cid_text
from common.dag_json import json_to_block
from common.delivery import Delivery
from common.events import (
    SEQ_BACKFILL,
    AccountEvent,
    CreateEvent,
    DeleteEvent,
    IdentityEvent,
    Label,
    LabelEvent,
    RepoEvent,
    RepoJob,
    SnapshotPart,
    StreamEvent,
    UpdateEvent,
    encode_event,
)
from common.syntax import record_uri, tid_at
from indexer.batch import Item

NOON = 1_740_830_400  # 2025-03-01T12:00:00Z, in seconds since 1970
POST, LIKE, REPOST, FOLLOW = "app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.feed.repost", "app.bsky.graph.follow"
BLOCK, PROFILE, LIST, LIST_ITEM = (
    *("app.bsky.graph.block", "app.bsky.actor.profile", "app.bsky.graph.list"),
    "app.bsky.graph.listitem",
)
Json = dict[str, Any]
AnyEvent = StreamEvent | LabelEvent | RepoJob


def did(name: str) -> str:
    """A did:plc that a person can tell from another."""
    return "did:plc:" + name.ljust(24, "a")


ALICE, BOB, CAROL, DAN, LABELER = map(did, ("alice", "bob", "carol", "dan", "labeler"))


def moment(seconds: float) -> str:
    """A time of the day on which all happens: so many seconds after noon."""
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"2025-03-01T{12 + hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}Z"


def rev(seconds: float) -> str:
    """The rev of a commit that was made at that moment."""
    return tid_at(int((NOON + seconds) * 1_000_000))


def cid(value: Json | str) -> str:
    """The CID of a record; or of something else that has this name."""
    block = json_to_block(orjson.dumps(value)) if isinstance(value, dict) else value.encode()
    return cid_text(cid_of(block))


def uri(who: str, collection: str, rkey: str) -> str:
    return record_uri(who, collection, rkey)


def ref(to: str) -> Json:
    """A strong reference; the CID of what it points to is nobody's business here."""
    return {"uri": to, "cid": cid(to)}


def blob(name: str, kind: str = "image/jpeg") -> Json:
    raw = cid(name).replace("bafyrei", "bafkrei")
    return {"$type": "blob", "ref": {"$link": raw}, "mimeType": kind, "size": 1000}


# records


def record(collection: str, at: float = 0, **fields: Any) -> Json:
    return {"$type": collection, "createdAt": moment(at)} | fields


def post(text: str = "hello", at: float = 0, **fields: Any) -> Json:
    return record(POST, at, text=text, **fields)


def reply(to: str, root: str = "", at: float = 0, text: str = "indeed") -> Json:
    return post(text, at, reply={"root": ref(root or to), "parent": ref(to)})


def quote(of: str, at: float = 0, text: str = "look") -> Json:
    return post(text, at, embed={"$type": "app.bsky.embed.record", "record": ref(of)})


def like(of: str, at: float = 0) -> Json:
    return record(LIKE, at, subject=ref(of))


def repost(of: str, at: float = 0) -> Json:
    return record(REPOST, at, subject=ref(of))


def follow(whom: str, at: float = 0) -> Json:
    return record(FOLLOW, at, subject=whom)


def profile(name: str, **fields: Any) -> Json:
    return {"$type": PROFILE, "displayName": name, **fields}


# events; `at` is when the commit was made, in seconds after noon, and so its rev


def _common(who: str, at: float, changes: Mapping[str, Any]) -> Json:
    when = {"seq": int(at * 10) + 1, "time": moment(at), "commit": cid(f"{who} {at}"), "rev": rev(at)}
    return {"did": who, **when, **changes}


def create(who: str, rkey: str, value: Json, at: float, **changes: Any) -> CreateEvent:
    return CreateEvent(
        **({"collection": value["$type"]} | _common(who, at, changes)),
        rkey=rkey,
        cid=cid(value),
        record=Raw(orjson.dumps(value)),
    )


def update(who: str, rkey: str, value: Json, at: float, **changes: Any) -> UpdateEvent:
    return UpdateEvent(
        **({"collection": value["$type"]} | _common(who, at, changes)),
        rkey=rkey,
        cid=cid(value),
        record=Raw(orjson.dumps(value)),
    )


def delete(who: str, collection: str, rkey: str, at: float, **changes: Any) -> DeleteEvent:
    return DeleteEvent(**_common(who, at, changes), collection=collection, rkey=rkey)


def sync(who: str, at: float, **changes: Any) -> RepoEvent:
    return RepoEvent(**_common(who, at, changes))


def account(who: str, at: float, *, active: bool, status: str | None = None) -> AccountEvent:
    return AccountEvent(seq=int(at * 10) + 1, time=moment(at), did=who, active=active, status=status)


def identity(who: str, at: float, handle: str | None = None) -> IdentityEvent:
    return IdentityEvent(seq=int(at * 10) + 1, time=moment(at), did=who, handle=handle)


def snapshot(
    who: str,
    records: Mapping[tuple[str, str], Json | None],
    at: float,
    *,
    collections: tuple[str, ...] = ("app.bsky.*", "chat.bsky.*"),
    read_at: float | None = None,
) -> list[StreamEvent]:
    """A whole repo as the backfiller sends it: (collection, rkey) -> record, or None for one that cannot be read.

    `at` is when its commit was made, `read_at` when it was fetched.
    """
    shared = {"seq": SEQ_BACKFILL, "time": moment(at + 3600 if read_at is None else read_at)}
    events: list[StreamEvent] = []
    for index, ((collection, rkey), value) in enumerate(sorted(records.items(), key=lambda pair: pair[0])):
        part = {"snapshot": SnapshotPart(len(records), index)}
        if value is None:
            events.append(delete(who, collection, rkey, at, **shared, **part))
        else:
            events.append(create(who, rkey, value, at, **shared, **part, collection=collection))
    end = SnapshotPart(len(records), len(records), collections or UNSET)
    return [*events, sync(who, at, **shared, snapshot=end)]


def label(about: str, val: str, at: float, *, neg: bool | None = None, **fields: Any) -> Label:
    return Label(src=LABELER, uri=about, val=val, cts=moment(at), neg=neg, **fields)


def labels(*them: Label, seq: int = 1) -> LabelEvent:
    return LabelEvent(seq=seq, labels=them)


# entries

_numbers = itertools.count(1)


def delivery(event: AnyEvent | bytes) -> Delivery:
    """The event as an entry of a stream, which no other has been."""
    payload = event if isinstance(event, bytes) else encode_event(event)
    return Delivery(b"%d-0" % next(_numbers), payload, {b"event": payload})


def items(events: Iterable[StreamEvent | LabelEvent]) -> list[Item]:
    return [Item(delivery(event), event) for event in events]


def cut(events: Sequence[Any], sizes: Iterable[int]) -> list[list[Any]]:
    """The same in runs of these sizes, the last of which is as long as it must be."""
    runs, at = [], 0
    for size in sizes:
        if at < len(events):
            runs.append(list(events[at : at + size]))
            at += size
    return [*runs, list(events[at:])] if at < len(events) else runs
