"""One message of an event stream, and what came out of it (spec: event-stream). Knows no lexicon."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct

from common.dag_cbor import decode_header_and_body
from common.errors import BadInput
from common.events import LabelEvent, StreamEvent
from common.syntax import is_did, is_tid

MAX_SEQ = 2**53 - 1
ERROR, INFO, UNKNOWN = "error", "#info", "unknown"


class Message(Struct, frozen=True):
    """`kind` is the header's short type, such as #commit; `seq` is 0 where there is none: errors and notices."""

    kind: str
    seq: int
    body: dict[str, Any]


class Signed(Struct, frozen=True):
    """A signature, and the bytes that it is over."""

    message: bytes
    signature: bytes


class Proof(StrEnum):
    """What was proven of a commit or #sync beyond its shape.

    NONE: nothing, for nobody asked. SIGNED: it is the account's (a #sync has no more to prove). WHOLE: it is the
    account's, and all that was done to the tree before. LEGACY: it is the account's and wrote what it says, from an old
    server that does not say what was before. PARTIAL: the same from a newer one whose word for that is wrong.
    """

    NONE = "none"
    SIGNED = "signed"
    WHOLE = "whole"
    LEGACY = "legacy"
    PARTIAL = "partial"


class ChainLink(Struct, frozen=True):
    """How a commit, or a #sync, ties in with its repo's history.

    `data` is the raw CID of the tree's root after it, `prev_data` that before it: None for commits of old servers,
    which do not say, and for a #sync, which only says what the repo is now. `since` is the rev before it, if any.
    """

    did: str
    rev: str
    since: str | None
    data: bytes
    prev_data: bytes | None
    is_sync: bool


class FrameResult(Struct, frozen=True, kw_only=True):
    """What one frame brought: received = units of `events` + filtered + dropped, always.

    A unit is an operation, an identity, account or sync event, a mark of a commit that was filtered away, or a label.
    A frame that is dropped whole is one unit. `name` and `text` are those of an error or of a notice. `signed` has one
    for each label of `events`, in their order, until they have been verified. `link` ties a commit or #sync to its
    repo's history; `desync` is (did, reason) of a repo that we no longer know, for its commit could not be verified, or
    not all of it. `refused_rev` is the rev that a commit without a link claims.
    """

    kind: str
    seq: int = 0
    time: str = ""
    events: tuple[StreamEvent | LabelEvent, ...] = ()
    signed: tuple[Signed, ...] = ()
    received: int = 0
    filtered: int = 0
    dropped: dict[str, int] = {}
    name: str = ""
    text: str = ""
    link: ChainLink | None = None
    desync: tuple[str, str] | None = None
    refused_rev: str = ""
    proof: Proof = Proof.NONE


class Unreadable(Struct, frozen=True):
    """A frame that nothing can be made of, not even its number."""

    frame: bytes
    reason: str


def read_message(frame: bytes) -> Message:
    """The two objects of a frame. Raises BadInput if they cannot be read, or an event has no sequence number."""
    header, body = decode_header_and_body(frame)
    op, kind = header.get("op"), header.get("t")
    if op == -1:
        return Message(ERROR, 0, body)
    if op != 1 or not isinstance(kind, str):
        return Message(UNKNOWN, 0, body)
    seq = body.get("seq")
    if kind == INFO or seq is None:
        return Message(kind, 0, body)
    if type(seq) is not int or not 0 < seq <= MAX_SEQ:
        raise BadInput("bad_frame", "seq")
    return Message(kind, seq, body)


def unread(message: Message) -> FrameResult:
    """The result of a message that brings no events: an error, a notice, or a type that is not ours to read."""
    if message.kind == ERROR:
        return FrameResult(kind=ERROR, name=_text_or_empty(message, "error"), text=_text_or_empty(message, "message"))
    if message.kind == INFO:
        return FrameResult(kind=INFO, name=_text_or_empty(message, "name"), text=_text_or_empty(message, "message"))
    return FrameResult(kind=message.kind, seq=message.seq)


def dropped_whole(message: Message, reason: str) -> FrameResult:
    """A frame that is of no use but for its sequence number. Raises BadInput if it has none."""
    if not message.seq:
        raise BadInput(reason, f"{message.kind} without seq")
    return FrameResult(kind=message.kind, seq=message.seq, received=1, dropped={reason: 1})


def text_of(body: dict[str, Any], name: str) -> str:
    """Raises BadInput("bad_frame") unless the field is a text that says something."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadInput("bad_frame", name)
    return value


def seq_of(message: Message) -> int:
    """Raises BadInput("bad_frame"), as do the next three."""
    if not message.seq:
        raise BadInput("bad_frame", "seq")
    return message.seq


def time_of(body: dict[str, Any]) -> str:
    text = text_of(body, "time")
    if not is_time(text):
        raise BadInput("bad_frame", "time")
    return text


def did_of(body: dict[str, Any], name: str) -> str:
    did = text_of(body, name)
    if not is_did(did):
        raise BadInput("bad_frame", name)
    return did


def rev_of(body: dict[str, Any]) -> str:
    rev = text_of(body, "rev")
    if not is_tid(rev):
        raise BadInput("bad_frame", "rev")
    return rev


def is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _text_or_empty(message: Message, name: str) -> str:
    value = message.body.get(name)
    return value if isinstance(value, str) else ""
