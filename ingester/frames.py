"""One frame of com.atproto.sync.subscribeRepos -> events."""

from collections.abc import Callable
from typing import Any

from msgspec import Raw, Struct

from common.car import Car, read_car
from common.dag_cbor import cid_text, is_cid
from common.dag_json import to_json
from common.errors import BadInput
from common.events import AccountEvent, CreateEvent, DeleteEvent, IdentityEvent, RepoEvent, StreamEvent, UpdateEvent
from common.repo import read_commit as read_signed
from common.syntax import is_did, is_tid, split_path
from ingester.framing import ChainLink, FrameResult, Message, dropped_whole, is_time, read_message, text_of, unread

MAX_OPS = 200
MAX_COMMIT_BYTES = 2_000_000
MAX_SYNC_BYTES = 10_000

CollectionTest = Callable[[str], bool]


class Commit(Struct, frozen=True):
    """A #commit whose fields are in order. That they are true, only its signature and its tree can show."""

    seq: int
    time: str
    did: str
    cid: str
    rev: str
    ops: list[Any]
    car: Car
    link: ChainLink | None


def events_of(frame: bytes, is_wanted: CollectionTest) -> FrameResult:
    """What a frame says, for the collections that `is_wanted` says yes to.

    Raises BadInput if the frame cannot be read at all; what is wrong within it is counted in the result.
    """
    message = read_message(frame)
    try:
        match message.kind:
            case "#commit":
                return events_of_commit(read_commit(message), is_wanted)
            case "#sync":
                return _read_sync(message)
            case "#identity":
                return _only(message, _read_identity(message))
            case "#account":
                return _only(message, _read_account(message))
    except BadInput as bad:
        return dropped_whole(message, bad.reason)
    return unread(message)


def read_commit(message: Message) -> Commit:
    """Raises BadInput. Whoever verifies commits does so between this function and `events_of_commit`."""
    body = message.body
    ops, blocks = body.get("ops"), body.get("blocks")
    if body.get("tooBig") or body.get("rebase"):
        raise BadInput("too_big", "the operations are not all there")
    if not isinstance(ops, list) or not isinstance(blocks, bytes):
        raise BadInput("bad_frame", "ops or blocks")
    if len(ops) > MAX_OPS or len(blocks) > MAX_COMMIT_BYTES:
        raise BadInput("too_big", f"{len(ops)} operations, {len(blocks)} bytes")
    did, rev, car = _did(body, "repo"), _rev(body), read_car(blocks, leave_out_bad_hashes=True)
    return Commit(
        seq=_seq(message),
        time=_time(body),
        did=did,
        cid=cid_text(body.get("commit", b"")),
        rev=rev,
        ops=ops,
        car=car,
        link=_link(did, rev, body, car),
    )


def events_of_commit(commit: Commit, is_wanted: CollectionTest) -> FrameResult:
    """The last word on each path. If the filter leaves no operation, or there was none, the commit itself is told."""
    latest = {op["path"]: op for op in commit.ops if _has_path(op)}
    events: list[StreamEvent] = []
    dropped: dict[str, int] = {}
    filtered = 0
    for op in commit.ops:
        try:
            path = _path(op)
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
        kind="#commit",
        seq=commit.seq,
        time=commit.time,
        events=tuple(events),
        received=received,
        filtered=filtered,
        dropped=dropped,
        link=commit.link,
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


def _read_sync(message: Message) -> FrameResult:
    body = message.body
    blocks = body.get("blocks")
    if not isinstance(blocks, bytes) or len(blocks) > MAX_SYNC_BYTES:
        raise BadInput("bad_frame", "blocks")
    car = read_car(blocks, leave_out_bad_hashes=True)
    _block(car, car.root)
    did, rev = _did(body, "did"), _rev(body)
    event = RepoEvent(seq=_seq(message), time=_time(body), did=did, commit=cid_text(car.root), rev=rev)
    return _only(message, event, _link(did, rev, body, car, is_sync=True))


def _link(did: str, rev: str, body: dict[str, Any], car: Car, *, is_sync: bool = False) -> ChainLink | None:
    """None if there is no commit of this repo at this rev in the CAR. Some servers say "" for a `since` of null."""
    try:
        commit = read_signed(car.blocks.get(car.root, b""))
    except BadInput:
        return None
    if (commit.did, commit.rev) != (did, rev):
        return None
    since, before = body.get("since"), body.get("prevData")
    return ChainLink(
        did=did,
        rev=rev,
        since=since if not is_sync and isinstance(since, str) and is_tid(since) else None,
        data=commit.data,
        prev_data=bytes(before) if not is_sync and is_cid(before) else None,
        is_sync=is_sync,
    )


def _read_identity(message: Message) -> IdentityEvent:
    handle = message.body.get("handle")
    return IdentityEvent(
        seq=_seq(message),
        time=_time(message.body),
        did=_did(message.body, "did"),
        handle=handle if isinstance(handle, str) else None,
    )


def _read_account(message: Message) -> AccountEvent:
    active, status = message.body.get("active"), message.body.get("status")
    if not isinstance(active, bool):
        raise BadInput("bad_frame", "active")
    return AccountEvent(
        seq=_seq(message),
        time=_time(message.body),
        did=_did(message.body, "did"),
        active=active,
        status=status if isinstance(status, str) else None,
    )


def _only(
    message: Message, event: RepoEvent | IdentityEvent | AccountEvent, link: ChainLink | None = None
) -> FrameResult:
    return FrameResult(kind=message.kind, seq=message.seq, time=event.time, events=(event,), received=1, link=link)


def _block(car: Car, cid: bytes) -> bytes:
    block = car.blocks.get(cid)
    if block is None:
        raise BadInput("bad_block_hash" if cid in car.bad_hashes else "missing_block", cid.hex())
    return block


def _has_path(op: object) -> bool:
    return isinstance(op, dict) and isinstance(op.get("path"), str)


def _path(op: Any) -> str:
    if not _has_path(op):
        raise BadInput("bad_op", "path")
    return str(op["path"])


def _seq(message: Message) -> int:
    if not message.seq:
        raise BadInput("bad_frame", "seq")
    return message.seq


def _time(body: dict[str, Any]) -> str:
    text = text_of(body, "time")
    if not is_time(text):
        raise BadInput("bad_frame", "time")
    return text


def _did(body: dict[str, Any], name: str) -> str:
    did = text_of(body, name)
    if not is_did(did):
        raise BadInput("bad_frame", name)
    return did


def _rev(body: dict[str, Any]) -> str:
    rev = text_of(body, "rev")
    if not is_tid(rev):
        raise BadInput("bad_frame", "rev")
    return rev
