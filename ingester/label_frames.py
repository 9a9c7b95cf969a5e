"""One frame of com.atproto.label.subscribeLabels -> an event with its labels, and what each of them is signed for."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from common.dag_cbor import encode
from common.errors import BadInput
from common.events import Label, LabelEvent
from common.syntax import is_did
from ingester.framing import FrameResult, Message, Signed, dropped_whole, read_message, unread

MAX_VALUE_BYTES = 128
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,32})?"
    r"(?:Z|(?!-00:00)[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


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


def without_refused(result: FrameResult, refusals: Sequence[str]) -> FrameResult:
    """The same without labels that have a refusal: `refusals` has a reason for each label, "" for one that may stay."""
    labels = [label for label, reason in zip(labels_of(result), refusals, strict=True) if not reason]
    return replace(
        result,
        time=_time_of(labels),
        events=_events(result.seq, labels),
        signed=(),
        dropped=Counter(result.dropped) + Counter(filter(None, refusals)),
    )


def labels_of(result: FrameResult) -> tuple[Label, ...]:
    return tuple(label for event in result.events if isinstance(event, LabelEvent) for label in event.labels)


def _events_of_labels(message: Message) -> FrameResult:
    given = message.body.get("labels")
    if not message.seq or not isinstance(given, list):
        raise BadInput("bad_frame", "seq or labels")
    labels: list[Label] = []
    signed: list[Signed] = []
    dropped: Counter[str] = Counter()
    for fields in given:
        try:
            label, signature = _label(fields), _signed(fields)
        except BadInput as bad:
            dropped[bad.reason] += 1
            continue
        labels.append(label)
        signed.append(signature)
    return FrameResult(
        kind=message.kind,
        seq=message.seq,
        time=_time_of(labels),
        events=_events(message.seq, labels),
        signed=tuple(signed),
        received=len(given),
        dropped=dropped,
    )


def _events(seq: int, labels: Sequence[Label]) -> tuple[LabelEvent, ...]:
    return (LabelEvent(seq=seq, labels=tuple(labels)),) if labels else ()


def _time_of(labels: Sequence[Label]) -> str:
    return labels[-1].cts if labels else ""


def _label(fields: Any) -> Label:
    """Lexicon com.atproto.label.defs#label."""
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
    if not _is_datetime(label.cts) or not (label.exp is None or _is_datetime(label.exp)):
        raise BadInput("bad_label", "cts or exp")
    return label


def _signed(fields: dict[str, Any]) -> Signed:
    """All fields but the signature itself are signed, also those that we do not know (spec: label, signing labels)."""
    signature = fields.get("sig")
    message = encode({name: value for name, value in fields.items() if name not in ("sig", "$type")})
    return Signed(message, signature if isinstance(signature, bytes) else b"")


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


def _is_datetime(text: str) -> bool:
    """A format that is a day of the calendar, in UTC too: the AppView's reader fails on a row with any other `exp`."""
    if _TIME.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True
