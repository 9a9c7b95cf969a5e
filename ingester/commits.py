"""A #commit or a #sync as the frame tells it, and the events of a commit's operations."""

from collections.abc import Callable
from typing import Any

from msgspec import Raw, Struct

from common.car import Car, check_hash, split_car
from common.dag_cbor import cid_text, is_cid
from common.dag_json import to_json
from common.errors import BadInput
from common.events import CreateEvent, DeleteEvent, RepoEvent, StreamEvent, UpdateEvent
from common.repo import Commit as Signed
from common.repo import read_commit as read_signed
from common.syntax import is_tid, split_path
from ingester.framing import ChainLink, FrameResult, Message, did_of, rev_of, seq_of, time_of

MAX_OPS = 200
MAX_COMMIT_BYTES = 2_000_000
MAX_SYNC_BYTES = 10_000

CollectionTest = Callable[[str], bool]


class Commit(Struct, frozen=True, kw_only=True):
    """What a #commit or #sync says, its fields in order. That it is true, only its signature and its tree can show.

    `prev_data` is the raw CID of the tree before it, None where the frame does not say; `signed` is the commit object
    at the CAR's root, None if there is none. A #sync has no operations. The blocks of `car` have not been hashed.
    """

    kind: str
    seq: int
    time: str
    did: str
    cid: str
    rev: str
    since: str | None
    prev_data: bytes | None
    ops: list[Any]
    car: Car
    signed: Signed | None

    @property
    def is_sync(self) -> bool:
        return self.kind == "#sync"

    @property
    def link(self) -> ChainLink | None:
        """None if the CAR's root is no commit of this repo at this rev."""
        if self.signed is None or (self.signed.did, self.signed.rev) != (self.did, self.rev):
            return None
        return ChainLink(
            did=self.did,
            rev=self.rev,
            since=self.since,
            data=self.signed.data,
            prev_data=self.prev_data,
            is_sync=self.is_sync,
        )


def read_commit(message: Message) -> Commit:
    """Raises BadInput. Whoever verifies commits does so between this function and `events_of_commit`."""
    body = message.body
    ops, blocks = body.get("ops"), body.get("blocks")
    if body.get("tooBig") or body.get("rebase"):
        raise BadInput("too_big", "the operations are not all there")
    if not isinstance(ops, list) or not isinstance(blocks, bytes):
        raise BadInput("bad_frame", "ops or blocks")
    if len(ops) > MAX_OPS or len(blocks) > MAX_COMMIT_BYTES:
        raise BadInput("oversized", f"{len(ops)} operations, {len(blocks)} bytes")
    since, prev_data = body.get("since"), body.get("prevData")
    if prev_data is not None and not is_cid(prev_data):
        raise BadInput("bad_frame", "prevData")
    return _commit(
        message,
        did=did_of(body, "repo"),
        cid=cid_text(body.get("commit", b"")),
        since=since if isinstance(since, str) and is_tid(since) else None,  # some servers say "" for null
        prev_data=prev_data,
        ops=ops,
        blocks=blocks,
    )


def read_sync(message: Message) -> Commit:
    """Raises BadInput."""
    blocks = message.body.get("blocks")
    if not isinstance(blocks, bytes):
        raise BadInput("bad_frame", "blocks")
    if len(blocks) > MAX_SYNC_BYTES:
        raise BadInput("oversized", f"{len(blocks)} bytes")
    sync = _commit(message, did=did_of(message.body, "did"), cid="", since=None, prev_data=None, ops=[], blocks=blocks)
    _block(sync.car, sync.car.root)
    return sync


def events_of_commit(commit: Commit, is_wanted: CollectionTest) -> FrameResult:
    """The last word on each path. If the filter leaves no operation, or there was none, the commit itself is told.

    The result has no link yet, nor a proof.
    """
    paths = [_path(op) for op in commit.ops]
    latest = dict(zip(paths, commit.ops, strict=True))
    events: list[StreamEvent] = []
    dropped: dict[str, int] = {}
    filtered = 0
    for path, op in zip(paths, commit.ops, strict=True):
        try:
            if path is None:
                raise BadInput("bad_op", "path")
            if not is_wanted(path.partition("/")[0]):
                filtered += 1
            elif latest[path] is not op:
                raise BadInput("superseded", path)
            else:
                events.append(_event_of_op(commit, op, path))
        except BadInput as bad:
            dropped[bad.reason] = dropped.get(bad.reason, 0) + 1
    received = len(commit.ops)
    if filtered == received:
        events.append(RepoEvent(seq=commit.seq, time=commit.time, did=commit.did, commit=commit.cid, rev=commit.rev))
        received += 1
    return FrameResult(
        kind=commit.kind,
        seq=commit.seq,
        time=commit.time,
        events=tuple(events),
        received=received,
        filtered=filtered,
        dropped=dropped,
    )


def _commit(message: Message, *, cid: str, blocks: bytes, **fields: Any) -> Commit:
    car = split_car(blocks)
    try:
        signed = read_signed(car.blocks.get(car.root, b""))
    except BadInput:
        signed = None
    return Commit(
        kind=message.kind,
        seq=seq_of(message),
        time=time_of(message.body),
        rev=rev_of(message.body),
        cid=cid or cid_text(car.root),
        car=car,
        signed=signed,
        **fields,
    )


def _event_of_op(commit: Commit, op: dict[str, Any], path: str) -> StreamEvent:
    collection, rkey = split_path(path)
    action = op.get("action")
    if action == "delete":
        return DeleteEvent(
            seq=commit.seq,
            time=commit.time,
            did=commit.did,
            commit=commit.cid,
            rev=commit.rev,
            collection=collection,
            rkey=rkey,
        )
    if action not in ("create", "update"):
        raise BadInput("unknown_action", repr(action)[:80])
    cid = op.get("cid")
    if not is_cid(cid):
        raise BadInput("bad_op", "cid")
    return (CreateEvent if action == "create" else UpdateEvent)(
        seq=commit.seq,
        time=commit.time,
        did=commit.did,
        commit=commit.cid,
        rev=commit.rev,
        collection=collection,
        rkey=rkey,
        cid=cid_text(cid),
        record=Raw(to_json(_block(commit.car, cid))),
    )


def _block(car: Car, cid: bytes) -> bytes:
    block = car.blocks.get(cid)
    if block is None:
        raise BadInput("missing_block", cid.hex())
    check_hash(cid, block)
    return block


def _path(op: object) -> str | None:
    path = op.get("path") if isinstance(op, dict) else None
    return path if isinstance(path, str) else None
