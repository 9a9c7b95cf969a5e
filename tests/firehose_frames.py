"""Frames of the firehose made by hand, and what is read of them."""

import json
from collections.abc import Sequence
from typing import Any

from common.collection_filter import CollectionFilter
from common.dag_cbor import Link, cid_of, cid_text, encode
from common.events import encode_event
from ingester.accounts import units
from ingester.frames import events_of
from ingester.framing import FrameResult
from tests.signed_repos import DID, REV, Signer, car, commit, record

TIME = "2026-11-20T22:33:50.656Z"
WANTED = CollectionFilter(("app.bsky.*", "chat.bsky.*"))
POST, OTHER = record("one"), record("two")
POST_CID, OTHER_CID = cid_of(POST), cid_of(OTHER)
DATA = cid_of(b"\xa0")
SIGNED = commit(DATA, Signer())
COMMIT_CID = cid_text(cid_of(SIGNED))
EARLIER = "3mfxgt2k7irck"
Op = dict[str, Any]


def frame(kind: str, **body: Any) -> bytes:
    return encode({"op": 1, "t": kind}) + encode({"seq": 7, "time": TIME} | body)


def op(action: str, path: str, cid: bytes | None = None) -> Op:
    return {"action": action, "path": path, "cid": None if cid is None else Link(cid)}


def commit_frame(operations: Sequence[Any], stored: Sequence[Any] = (POST, OTHER), **changes: Any) -> bytes:
    body: dict[str, Any] = {
        "repo": DID,
        "commit": Link(cid_of(SIGNED)),
        "rev": REV,
        "since": None,
        "blocks": car(cid_of(SIGNED), [SIGNED, *stored]),
        "ops": list(operations),
        "tooBig": False,
        "rebase": False,
        "blobs": [],
    }
    return frame("#commit", **(body | changes))


def read(raw: bytes) -> FrameResult:
    """The result, whose account must add up."""
    result = events_of(raw, WANTED)
    assert result.received == units(result.events) + result.filtered + sum(result.dropped.values())
    return result


def wire(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(encode_event(event)) for event in read(raw).events]
