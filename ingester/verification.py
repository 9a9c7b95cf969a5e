"""Whether a #commit or #sync is what its account signed, and all that was done (spec: sync, validating commits).

The cheap checks come first. What only the repo's history can tell, the order of revs and whether one commit follows
upon another, is not asked here.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from msgspec import Struct

from common.car import check_hash
from common.dag_cbor import RAW_CID, cid_text, is_cid
from common.errors import BadInput
from common.inversion import EMPTY_TREE, Change, Changes, KnownTree, check_outcome, known_tree, leads_back_to
from common.keys import PublicKey, verify
from common.repo import Commit as Signed
from common.repo import is_path
from common.syntax import FUTURE_SECONDS, tid_microseconds
from ingester.commits import Commit
from ingester.framing import Proof

# What old or faulty servers get wrong of an otherwise honest commit: they leave out nodes, or mistake what was before.
_LENIENCY = ("inversion_failed", "inversion_incomplete")


class Mode(StrEnum):
    """How much is asked of a commit.

    STRICT: its signature, and that its operations lead back to `prevData`. Commits of old servers that do not say what
    was before must be signed, and have written what they say. LENIENT: that is enough of all commits. OFF: nothing.
    """

    STRICT = "strict"
    LENIENT = "lenient"
    OFF = "off"


class KnownKey(Struct, frozen=True):
    """An account's signing key; `is_newest` if its DID document was read just now."""

    key: PublicKey
    is_newest: bool


class KeyWanted(Exception):
    """There is no telling without the account's key, or without a newer one than `tried`."""

    def __init__(self, did: str, tried: PublicKey | None = None) -> None:
        super().__init__(did)
        self.did = did
        self.tried = tried


KeyOf = Callable[[str], KnownKey]


def proof_of(commit: Commit, key_of: KeyOf, mode: Mode, now_seconds: float) -> Proof:
    """What is proven of a commit. `key_of` raises KeyWanted, or BadInput if the account has no key.

    Raises BadInput: "future_rev", "bad_block_hash", "bad_car", "commit_mismatch", "bad_commit", "bad_op",
    "unknown_action", "bad_signature", "bad_mst", "ops_mismatch", "inversion_failed", "inversion_incomplete"; KeyWanted.
    """
    if mode is Mode.OFF:
        return Proof.NONE
    if tid_microseconds(commit.rev) > (now_seconds + FUTURE_SECONDS) * 1e6:
        raise BadInput("future_rev", f"{commit.did} {commit.rev}")
    changes = changes_of(commit.ops)
    signed = _signed_commit(commit, changes)
    _check_signature(signed, key_of(commit.did))
    if commit.is_sync:
        return Proof.SIGNED
    return _proof_of_operations(commit, signed, changes, mode)


def _signed_commit(commit: Commit, changes: Changes) -> Signed:
    """The commit object, once it is clear that the frame is about it and that every block is what its CID says."""
    for cid, block in commit.car.blocks.items():
        check_hash(cid, block)
    records = {change.after for change in changes.values()}
    if any(cid.startswith(RAW_CID) and cid not in records for cid in commit.car.blocks):
        raise BadInput("bad_car", "a raw block that is no record")
    if cid_text(commit.car.root) != commit.cid:
        raise BadInput("commit_mismatch", "the CAR's root")
    if commit.signed is None:
        raise BadInput("bad_commit", commit.cid)
    if (commit.signed.did, commit.signed.rev) != (commit.did, commit.rev):
        raise BadInput("commit_mismatch", f"{commit.signed.did} {commit.signed.rev}")
    return commit.signed


def _check_signature(signed: Signed, known: KnownKey) -> None:
    if verify(known.key, signed.unsigned, signed.sig):
        return
    if known.is_newest:
        raise BadInput("bad_signature", f"{signed.did} {signed.rev}")
    raise KeyWanted(signed.did, known.key)


def _proof_of_operations(commit: Commit, signed: Signed, changes: Changes, mode: Mode) -> Proof:
    before = commit.prev_data or (EMPTY_TREE if commit.since is None else None)
    if before is not None and signed.data == before and not changes:
        return Proof.WHOLE
    tree = known_tree(commit.car.blocks, signed.data) if changes else KnownTree(())
    try:
        if before is None or not _says_what_was_before(commit.ops):
            raise BadInput("inversion_incomplete", "not said what was before")
        check_outcome(tree, changes)
        if not leads_back_to(before, tree, changes):
            raise BadInput("inversion_failed", f"{commit.did} {commit.rev}")
    except BadInput as bad:
        is_legacy = commit.prev_data is None or not _says_what_was_before(commit.ops)
        if bad.reason not in _LENIENCY or not (is_legacy or mode is Mode.LENIENT):
            raise
        _check_what_is_shown(tree, changes)
        return Proof.LEGACY if is_legacy else Proof.PARTIAL
    return Proof.WHOLE


def _check_what_is_shown(tree: KnownTree, changes: Changes) -> None:
    """What was written is in the tree. What was deleted is not in the part of it that is known."""
    for key, change in changes.items():
        try:
            check_outcome(tree, {key: change})
        except BadInput as bad:
            if change.after is not None or bad.reason == "ops_mismatch":
                raise


def _says_what_was_before(ops: list[Any]) -> bool:
    return all(op["action"] == "create" or op.get("prev") is not None for op in ops)


def changes_of(ops: list[Any]) -> dict[bytes, Change]:
    """What the operations do to each key, once they have the shape of operations."""
    changes: dict[bytes, Change] = {}
    for op in ops:
        path = op.get("path") if isinstance(op, dict) else None
        if not isinstance(path, str):
            raise BadInput("bad_op", "path")
        key, action, cid, before = path.encode(), op.get("action"), op.get("cid"), op.get("prev")
        if action not in ("create", "update", "delete"):
            raise BadInput("unknown_action", repr(action)[:80])
        if not is_path(key):
            raise BadInput("bad_path", path[:80])
        has_right_cids = cid is None if action == "delete" else is_cid(cid)
        if key in changes or not has_right_cids or not (before is None or (is_cid(before) and action != "create")):
            raise BadInput("bad_op", f"{action} {path[:80]}")
        changes[key] = Change(before, cid)
    return changes
