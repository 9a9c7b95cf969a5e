"""The events on the streams and their wire form: one JSON object in one named field of a stream entry.

The shapes are a contract with other implementations: fields may be added, never renamed or left out.
"""

from typing import Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from common.errors import BadInput
from common.syntax import record_uri

SEQ_BACKFILL = -1
EVENT_FIELD, JOB_FIELD, LABELS_FIELD = "event", "repo", "labels"


class SnapshotPart(Struct, frozen=True):
    """Where an event stands in a snapshot of `records` records: the closing `repo` event has index == records.

    `collections` (on the closing event only) is the filter that the snapshot was made with.
    """

    records: int
    index: int
    collections: tuple[str, ...] | UnsetType = UNSET


class RecordEvent(Struct, frozen=True, tag_field="type", kw_only=True):
    """What creates, updates and deletes have in common. `time` is the event's own time; `commit` a CID, `rev` a TID."""

    seq: int
    time: str
    did: str
    commit: str
    rev: str
    collection: str
    rkey: str
    snapshot: SnapshotPart | UnsetType = UNSET

    @property
    def uri(self) -> str:
        return record_uri(self.did, self.collection, self.rkey)


class CreateEvent(RecordEvent, frozen=True, tag="create", kw_only=True):
    action: ClassVar[str] = "create"
    cid: str
    record: Raw


class UpdateEvent(RecordEvent, frozen=True, tag="update", kw_only=True):
    action: ClassVar[str] = "update"
    cid: str
    record: Raw


class DeleteEvent(RecordEvent, frozen=True, tag="delete", kw_only=True):
    action: ClassVar[str] = "delete"


class RepoEvent(Struct, frozen=True, tag_field="type", tag="repo", kw_only=True):
    """A commit was seen whose records are not (all) on the stream: a #sync, or the end of a snapshot."""

    time: str
    did: str
    commit: str
    rev: str
    seq: int = SEQ_BACKFILL
    snapshot: SnapshotPart | UnsetType = UNSET


class AccountEvent(Struct, frozen=True, tag_field="type", tag="account", kw_only=True):
    time: str
    did: str
    active: bool
    status: str | None = None
    seq: int = SEQ_BACKFILL


class IdentityEvent(Struct, frozen=True, tag_field="type", tag="identity", kw_only=True):
    """Something about the DID document may have changed; the handle is an unverified hint."""

    time: str
    did: str
    handle: str | None = None
    seq: int = SEQ_BACKFILL


WrittenEvent = CreateEvent | UpdateEvent
StreamEvent = CreateEvent | UpdateEvent | DeleteEvent | RepoEvent | AccountEvent | IdentityEvent


class Label(Struct, frozen=True, kw_only=True):
    src: str
    uri: str
    val: str
    cts: str
    cid: str | None = None
    neg: bool | None = None
    exp: str | None = None


class LabelEvent(Struct, frozen=True, kw_only=True):
    """The labels of one frame of a labeler."""

    seq: int
    labels: tuple[Label, ...]


Priority = Literal["high", "normal"]


class RepoJob(Struct, frozen=True, kw_only=True):
    """A DID that waits for backfill. `host` says who named it (with scheme); it is never fetched from.

    `rev` is the rev that whoever named it has seen. What follows `attempts` is ours: why the repo is wanted, which of
    the two streams it belongs on (the high one is read first), and what each failed try ended with.
    """

    did: str
    host: str = ""
    rev: str = ""
    status: str | None = None
    active: bool = True
    attempts: int = 0
    reason: str | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    history: tuple[str, ...] | UnsetType = UNSET


_encoder = msgspec.json.Encoder()
_event_decoder = msgspec.json.Decoder(StreamEvent)
_labels_decoder = msgspec.json.Decoder(LabelEvent)
_job_decoder = msgspec.json.Decoder(RepoJob)


def encode_event(event: StreamEvent | LabelEvent | RepoJob) -> bytes:
    """The JSON that stands in the entry's field."""
    return _encoder.encode(event)


class CreatePayloads:
    """As `encode_event`, for the creates of one snapshot, which share all but five fields: in a fifth of the time."""

    def __init__(self, shared: CreateEvent, records: int) -> None:
        """Whatever stands in the five fields of `shared` is left out."""
        part = SnapshotPart(records, 0)
        blank = msgspec.structs.replace(shared, collection="@", rkey="@", cid="@", record=Raw(b"@"), snapshot=part)
        text = encode_event(blank).replace(b"%", b"%%")  # nothing else in it may hold an @
        self._text = text.replace(b'"index":0', b'"index":%d').replace(b"@", b"%b")

    def payload(self, collection: bytes, rkey: bytes, index: int, cid: bytes, record: bytes) -> bytes:
        """The payload of one create, in the order of the fields. No text here may need to be escaped."""
        return self._text % (collection, rkey, index, cid, record)


def decode_event(payload: bytes) -> StreamEvent:
    """Raises BadInput("bad_entry")."""
    return _decode(_event_decoder, payload)  # type: ignore[no-any-return]


def decode_labels(payload: bytes) -> LabelEvent:
    """Raises BadInput("bad_entry")."""
    return _decode(_labels_decoder, payload)  # type: ignore[no-any-return]


def decode_job(payload: bytes) -> RepoJob:
    """Raises BadInput("bad_entry")."""
    return _decode(_job_decoder, payload)  # type: ignore[no-any-return]


def _decode(decoder: Any, payload: bytes) -> Any:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("bad_entry", str(error)) from error
