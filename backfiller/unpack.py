"""CAR + identity -> the events of one complete, signed snapshot."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from mmap import mmap
from typing import Any

from libipld import encode_cid
from msgspec import Raw

from common.car import read_car
from common.collection_filter import CollectionFilter
from common.dag_cbor import CBOR_CID, cid_text
from common.dag_json import to_json
from common.errors import BadInput, TryLater
from common.events import (
    SEQ_BACKFILL,
    CreateEvent,
    CreatePayloads,
    DeleteEvent,
    RepoEvent,
    SnapshotPart,
    encode_event,
)
from common.keys import PublicKey
from common.repo import Commit, read_commit, verify_commit, walk
from common.spooled_car import SpooledBlocks
from common.syntax import is_nsid, is_record_key

Leaf = tuple[bytes, bytes]  # path, raw CID of the record


@dataclass(slots=True)
class Snapshot:
    """A repo at one revision, proven complete: its tree holds `records` that pass the filter and `filtered` others.

    A path that is no `nsid/rkey` is filtered too: no record can be indexed under it. `unreadable` says how many of the
    `records` are not JSON; it is counted while the payloads are drawn.
    """

    did: str
    commit: str  # CID
    rev: str
    data: bytes  # raw CID of the tree's top
    collections: CollectionFilter
    leaves: Callable[[], Iterable[Leaf]]  # those that pass the filter
    blocks: Mapping[bytes, bytes]
    records: int
    filtered: int
    unreadable: int = 0

    def payloads(self, time: str) -> Iterator[bytes]:
        """The events, encoded: one for each record, index 0 to `records` - 1, then the one that closes the snapshot.

        Who has applied them all may delete what the snapshot lacks. So a record that cannot be read is told all the
        same, as a delete *with its place in the snapshot*: the key is there at this rev, and there is nothing to index.
        """
        common: dict[str, Any] = {"did": self.did, "commit": self.commit, "rev": self.rev, "time": time}
        creates = CreatePayloads(
            CreateEvent(seq=SEQ_BACKFILL, **common, collection="", rkey="", cid="", record=Raw(b"")), self.records
        )
        self.unreadable = 0
        for index, (path, cid) in enumerate(self.leaves()):
            collection, _, rkey = path.partition(b"/")
            if record := _json_of(cid, self.blocks[cid]):
                yield creates.payload(collection, rkey, index, encode_cid(cid).encode(), record)
                continue
            self.unreadable += 1
            place = {"collection": collection.decode(), "rkey": rkey.decode()}
            part = SnapshotPart(self.records, index)
            yield encode_event(DeleteEvent(seq=SEQ_BACKFILL, **common, **place, snapshot=part))
        closing = SnapshotPart(self.records, self.records, self.collections.patterns)
        yield encode_event(RepoEvent(**common, snapshot=closing))


def unpack(car_bytes: bytes | mmap, did: str, key: PublicKey | None, collections: CollectionFilter) -> Snapshot:
    """The snapshot in the answer to getRepo. Without a key the signature is not looked at.

    What is mapped from a file stays there: its tree is walked once to prove it, and again when the payloads are drawn.
    Raises TryLater("truncated_car", "incomplete_repo") when a part is missing, as in a broken download; BadInput when
    the repo is wrong: "wrong_did", "bad_signature", "bad_commit", "bad_mst", "bad_car", "bad_block_hash".
    """
    root, blocks = _blocks_of(car_bytes)
    commit = _commit_of(root, blocks)
    if commit.did != did:
        raise BadInput("wrong_did", f"{commit.did} instead of {did}")
    if key is not None:
        verify_commit(commit, key)

    passes = _passing(collections)

    def passing() -> Iterator[Leaf]:
        return (leaf for leaf in walk(blocks, commit.data) if passes(leaf[0]))

    leaves: Callable[[], Iterable[Leaf]] = passing
    if isinstance(car_bytes, bytes):
        everything = list(walk(blocks, commit.data))
        kept = [leaf for leaf in everything if passes(leaf[0])]
        leaves, records, total = lambda: kept, len(kept), len(everything)
    else:
        verdicts = Counter(passes(path) for path, _ in walk(blocks, commit.data))
        records, total = verdicts[True], verdicts.total()
    return Snapshot(did, cid_text(root), commit.rev, commit.data, collections, leaves, blocks, records, total - records)


def did_and_rev(car_bytes: bytes | mmap) -> tuple[str, str]:
    """What the commit of a CAR says; nothing of it is proven. Raises as unpack does."""
    commit = _commit_of(*_blocks_of(car_bytes))
    return commit.did, commit.rev


def _blocks_of(car_bytes: bytes | mmap) -> tuple[bytes, Mapping[bytes, bytes]]:
    """The CID of the commit, and all blocks."""
    try:
        if isinstance(car_bytes, bytes):
            car = read_car(car_bytes)
            return car.root, car.blocks
        spooled = SpooledBlocks(car_bytes)
    except BadInput as error:
        if error.reason != "truncated_car":
            raise
        raise TryLater(error.reason, error.detail) from error
    return spooled.root, spooled


def _commit_of(root: bytes, blocks: Mapping[bytes, bytes]) -> Commit:
    block = blocks.get(root)
    if block is None:
        raise TryLater("incomplete_repo", "no commit")
    return read_commit(block)


def _passing(collections: CollectionFilter) -> Callable[[bytes], bool]:
    """Whether a path passes the filter, and a record can be indexed under it."""

    @lru_cache(4096)  # few collections make most records
    def is_ours(collection: bytes) -> bool:
        text = collection.decode()
        return collections(text) and is_nsid(text)

    def passes(path: bytes) -> bool:
        collection, _, rkey = path.partition(b"/")
        return is_ours(collection) and is_record_key(rkey.decode())

    return passes


def _json_of(cid: bytes, block: bytes) -> bytes | None:
    if not cid.startswith(CBOR_CID):
        return None
    try:
        return to_json(block)
    except BadInput:
        return None
