"""One frame of com.atproto.label.subscribeLabels -> an event with its labels."""

from collections import Counter
from typing import Any

from common.errors import BadInput
from common.events import Label, LabelEvent
from common.syntax import is_did
from ingester.framing import FrameResult, Message, dropped_whole, is_time, read_message, unread

MAX_VALUE_BYTES = 128


def events_of(frame: bytes) -> FrameResult:
    """What a frame says; a bad label costs none of its siblings. Texts stay as the labeler wrote them.

    Raises BadInput if the frame cannot be read at all.
    """
    message = read_message(frame)
    if message.kind != "#labels":
        return unread(message)
    try:
        return _events_of_labels(message)
    except BadInput as bad:
        return dropped_whole(message, bad.reason)


def _events_of_labels(message: Message) -> FrameResult:
    given = message.body.get("labels")
    if not message.seq or not isinstance(given, list):
        raise BadInput("bad_frame", "seq or labels")
    labels: list[Label] = []
    dropped: Counter[str] = Counter()
    for fields in given:
        try:
            labels.append(_label(fields))
        except BadInput as bad:
            dropped[bad.reason] += 1
    return FrameResult(
        kind=message.kind,
        seq=message.seq,
        time=labels[-1].cts if labels and is_time(labels[-1].cts) else "",
        events=(LabelEvent(seq=message.seq, labels=tuple(labels)),) if labels else (),
        received=len(given),
        dropped=dropped,
    )


def _label(fields: Any) -> Label:
    """Lexicon com.atproto.label.defs#label. The signature is not carried on: nobody downstream can check it."""
    if not isinstance(fields, dict) or fields.get("ver", 1) != 1:
        raise BadInput("bad_label", "not a label of version 1")
    label = Label(
        src=_required(fields, "src"),
        uri=_required(fields, "uri"),
        val=_required(fields, "val"),
        cts=_required(fields, "cts"),
        cid=_optional(fields, "cid", str),
        neg=_optional(fields, "neg", bool),
        exp=_optional(fields, "exp", str),
    )
    if not is_did(label.src) or not (is_did(label.uri) or label.uri.startswith("at://")):
        raise BadInput("bad_label", "src or uri")
    if len(label.val.encode()) > MAX_VALUE_BYTES:
        raise BadInput("bad_label", "val")
    return label


def _required(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise BadInput("bad_label", name)
    return value


def _optional(fields: dict[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise BadInput("bad_label", name)
    return value
