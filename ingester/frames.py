"""One frame of com.atproto.sync.subscribeRepos -> events."""

from collections.abc import Callable

from msgspec.structs import replace

from common.errors import BadInput
from common.events import AccountEvent, IdentityEvent
from common.inversion import EMPTY_TREE
from common.syntax import is_tid
from ingester.commits import CollectionTest, Commit, events_of_commit, read_commit, read_sync
from ingester.framing import FrameResult, Message, Proof, did_of, dropped_whole, read_message, seq_of, time_of, unread

# What a refused commit did to its repo must be fetched, unless it would be refused again.
_NOTHING_TO_FETCH = ("future_rev", "no_such_account")
_LOST = ("missing_block", "bad_block_hash")

Prove = Callable[[Commit], Proof]


def taken_at_its_word(_: Commit) -> Proof:
    return Proof.NONE


def events_of(frame: bytes, is_wanted: CollectionTest, prove: Prove = taken_at_its_word) -> FrameResult:
    """What a frame says, for the collections that `is_wanted` says yes to.

    `prove` raises BadInput for a commit that is refused; whatever else it raises comes out here.
    Raises BadInput if the frame cannot be read at all; what is wrong within it is counted in the result.
    """
    message = read_message(frame)
    try:
        match message.kind:
            case "#commit":
                return _proven(read_commit(message), is_wanted, prove)
            case "#sync":
                return _proven(read_sync(message), is_wanted, prove)
            case "#identity":
                return _only(message, _read_identity(message))
            case "#account":
                return _only(message, _read_account(message))
    except BadInput as bad:
        return _refused(message, bad.reason)
    return unread(message)


def _proven(commit: Commit, is_wanted: CollectionTest, prove: Prove) -> FrameResult:
    proof = prove(commit)
    result, link = events_of_commit(commit, is_wanted), commit.link
    if link and proof is Proof.WHOLE and link.prev_data is None:
        link = replace(link, prev_data=EMPTY_TREE)  # the first of its repo, which does not say so
    lost = next((reason for reason in _LOST if reason in result.dropped), "")
    reason = "inversion_failed" if proof is Proof.PARTIAL else lost
    return replace(result, link=link, proof=proof, desync=(commit.did, reason) if reason else None)


def _refused(message: Message, reason: str) -> FrameResult:
    result = dropped_whole(message, reason)
    if message.kind not in ("#commit", "#sync") or reason in _NOTHING_TO_FETCH:
        return result
    try:
        did = did_of(message.body, "repo" if message.kind == "#commit" else "did")
    except BadInput:
        return result
    rev = message.body.get("rev")
    refused_rev = rev if isinstance(rev, str) and is_tid(rev) else ""
    return replace(result, desync=(did, reason), refused_rev=refused_rev)


def _read_identity(message: Message) -> IdentityEvent:
    handle = message.body.get("handle")
    return IdentityEvent(
        seq=seq_of(message),
        time=time_of(message.body),
        did=did_of(message.body, "did"),
        handle=handle if isinstance(handle, str) else None,
    )


def _read_account(message: Message) -> AccountEvent:
    active, status = message.body.get("active"), message.body.get("status")
    if not isinstance(active, bool):
        raise BadInput("bad_frame", "active")
    return AccountEvent(
        seq=seq_of(message),
        time=time_of(message.body),
        did=did_of(message.body, "did"),
        active=active,
        status=status if isinstance(status, str) else None,
    )


def _only(message: Message, event: IdentityEvent | AccountEvent) -> FrameResult:
    return FrameResult(kind=message.kind, seq=message.seq, time=event.time, events=(event,), received=1)
