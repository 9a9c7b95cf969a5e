"""What is known of each repo, and what a frame says of one, in the bytes that Redis and its scripts see (lua/).

A repo is a field of a hash, 26 bytes when all is well. A step is what a frame says of a repo. The scripts compare the
two, for only there can nobody come between; docs/architecture.md has the states and what leads from one to another.
"""

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

from msgspec import Struct

from common.inversion import EMPTY_TREE
from common.syntax import tid_of, tid_value

KEY = "repo_chain"
BUCKETS = 1 << 18  # 43 million repos are 164 to a bucket, which Redis packs densely up to 512
OTHER_BUCKETS = 1 << 8  # for DIDs that are not did:plc, whose fields are their text

NO_STEP = b"-"
NO_VERDICT = "-"
ADVANCED, SAME_ROOT, ADOPTED, COVERED, WAITING, TOLD, REPLAYED = "a", "s", "n", "o", "w", "t", "r"
DESYNCHRONISED, STILL_DESYNCHRONISED = "x", "X"
DUPLICATE, INACTIVE, FIRST_INACTIVE = "d", "i", "j"

_PLC = re.compile(r"did:plc:([a-z2-7]{24})")
_FROM_BASE32 = str.maketrans("abcdefghijklmnopqrstuvwxyz234567", "0123456789abcdefghijklmnopqrstuv")
_NO_REV, _NO_DATA = bytes(8), bytes(16)
_PLACE = struct.Struct(">H7s5sH")
_TOLD = struct.Struct(">7sHH")


class RepoState(Struct, frozen=True):
    """`rev` is the newest that we know of, '' if none; `data` the first half of the digest of its root.

    `status`: n nothing known but the account, w whole, W whole by a snapshot that is ahead of the stream, f followed
    since a commit and never fetched; or why it is out of step: c broken chain, s #sync with another root, r account
    reactivated, u account said to be desynchronised, v a commit that could not be verified.
    `account`: + active, - inactive, m inactive and commits came all the same.
    """

    status: str
    account: str
    rev: str
    data: bytes

    @property
    def is_whole(self) -> bool:
        return self.status in ("w", "W")

    @property
    def is_desynchronised(self) -> bool:
        return self.status not in ("n", "w", "W", "f")


class Frame(Struct, frozen=True):
    """What one frame brings: its step, and the payloads that go to the stream if it is news."""

    step: bytes
    payloads: Sequence[bytes]


@lru_cache(1 << 15)  # most frames are of repos that are busy
def place_of(did: str) -> tuple[str, bytes]:
    """The repo's bucket, five digits that follow `repo_chain:`, and its field there."""
    if match := _PLC.fullmatch(did):
        return f"{crc32(did.encode()) % BUCKETS:05x}", int(match[1].translate(_FROM_BASE32), 32).to_bytes(15, "big")
    return f"{BUCKETS + crc32(did.encode()) % OTHER_BUCKETS:05x}", did.encode()


def state_of(raw: bytes) -> RepoState:
    return RepoState(chr(raw[0]), chr(raw[1]), _tid(raw[2:10]), raw[10:26])


def packed_rev(rev: str) -> bytes:
    """A TID in 8 bytes, which sort as it does. It must be valid."""
    return tid_value(rev).to_bytes(8, "big")


def packed_data(data: bytes) -> bytes:
    """Half of the digest in a raw CID: who wants two roots that share it deceives us about nobody but himself."""
    return data[4:20]


def commit_step(
    seq: int,
    did: str,
    rev: str,
    data: bytes,
    *,
    since: str | None,
    prev_data: bytes | None,
    payloads: int,
    flaw: str = "",
) -> bytes:
    """`data` and `prev_data` are raw CIDs of roots. A commit upon the empty tree holds all there is of its repo.

    `flaw`: a word for why the commit moves its repo on, and yet something of it is missing.
    """
    before = _NO_DATA if prev_data is None else packed_data(prev_data)
    whole = b"w" if EMPTY_TREE in (data, prev_data) else b"-"
    step = _head(b"p" if flaw else b"c", seq, did, payloads) + packed_rev(rev) + packed_data(data)
    return step + (packed_rev(since) if since else _NO_REV) + before + whole + _tail(rev, did, flaw)


def sync_step(seq: int, did: str, rev: str, data: bytes, *, payloads: int) -> bytes:
    whole = b"w" if data == EMPTY_TREE else b"-"
    step = _head(b"s", seq, did, payloads) + packed_rev(rev) + packed_data(data)
    return step + _NO_REV + _NO_DATA + whole + _tail(rev, did)


def loss_step(seq: int, did: str, rev: str, reason: str, *, payloads: int) -> bytes:
    """A commit was refused. `rev` is what it claims, '' if nothing; `reason` is a word of our own."""
    return _head(b"v", seq, did, payloads) + (packed_rev(rev) if rev else _NO_REV) + _tail("", did, reason)


def told_step(kind: bytes, seq: int, did: str, told: bytes, says: bytes, *, payloads: int) -> bytes:
    """An account (kind a) or identity (i) event.

    It `says` of the account: + active, - not active, ! desynchronised, = nothing.
    """
    return _head(kind, seq, did, payloads) + told + says + _tail("", did)


def told_mark(host: str, microseconds: int, content: bytes) -> bytes:
    """By which the same event is known again from another host; microseconds since 1970, content of any length."""
    return _TOLD.pack(microseconds.to_bytes(7, "big"), crc32(content) & 0xFFFF, crc32(host.encode()) & 0xFFFF)


def no_step(payloads: int) -> bytes:
    return NO_STEP + payloads.to_bytes(2, "big")


def _head(kind: bytes, seq: int, did: str, payloads: int) -> bytes:
    bucket, field = place_of(did)
    return kind + _PLACE.pack(payloads, seq.to_bytes(7, "big"), bucket.encode(), len(field)) + field


def _tail(rev: str, did: str, reason: str = "") -> bytes:
    """For the job, if there is to be one."""
    return f"{rev} {did} {reason}".encode()


def _tid(packed: bytes) -> str:
    return tid_of(int.from_bytes(packed, "big")) if any(packed) else ""
