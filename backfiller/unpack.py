"""CAR + identity -> the events of one complete, signed snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import Raw

from common.car import Car, read_car
from common.collection_filter import CollectionFilter
from common.dag_cbor import CBOR_CID, cid_text
from common.dag_json import to_json
from common.errors import BadInput, TryLater
from common.events import SEQ_BACKFILL, CreateEvent, DeleteEvent, RepoEvent, SnapshotPart
from common.keys import PublicKey
from common.repo import Commit, read_commit, verify_commit, walk
from common.syntax import split_path


@dataclass(slots=True)
class Snapshot:
    """A repo at one revision, proven complete: its tree holds `records` that pass the filter and `filtered` others.

    A path that is no `nsid/rkey` is filtered too: no record can be indexed under it. `unreadable` says how many of the
    `records` are not JSON; it is counted while the events are drawn.
    """

    did: str
    commit: str  # CID
    rev: str
    data: bytes  # raw CID of the tree's top
    collections: CollectionFilter
    leaves: list[tuple[str, bytes, bytes]]  # path, raw CID and block of each record that passes
    filtered: int
    unreadable: int = 0

    @property
    def records(self) -> int:
        return len(self.leaves)

    def events(self, time: str) -> Iterator[CreateEvent | DeleteEvent | RepoEvent]:
        """One event for each record, index 0 to `records` - 1, then the one that closes the snapshot, index `records`.

        Who has applied them all may delete what the snapshot lacks. So a record that cannot be read is told all the
        same, as a delete *with its place in the snapshot*: the key is there at this rev, and there is nothing to index.
        """
        self.unreadable = 0
        for index, leaf in enumerate(self.leaves):
            event = self._event(leaf, SnapshotPart(self.records, index), time)
            self.unreadable += isinstance(event, DeleteEvent)
            yield event
        closing = SnapshotPart(self.records, self.records, self.collections.patterns)
        yield RepoEvent(time=time, did=self.did, commit=self.commit, rev=self.rev, snapshot=closing)

    def _event(self, leaf: tuple[str, bytes, bytes], part: SnapshotPart, time: str) -> CreateEvent | DeleteEvent:
        path, cid, block = leaf
        collection, _, rkey = path.partition("/")
        record = _json_of(cid, block)
        if record is None:
            return DeleteEvent(
                seq=SEQ_BACKFILL,
                time=time,
                did=self.did,
                commit=self.commit,
                rev=self.rev,
                collection=collection,
                rkey=rkey,
                snapshot=part,
            )
        return CreateEvent(
            seq=SEQ_BACKFILL,
            time=time,
            did=self.did,
            commit=self.commit,
            rev=self.rev,
            collection=collection,
            rkey=rkey,
            cid=cid_text(cid),
            record=record,
            snapshot=part,
        )


def unpack(car_bytes: bytes, did: str, key: PublicKey | None, collections: CollectionFilter) -> Snapshot:
    """The snapshot in the answer to getRepo. Without a key the signature is not looked at.

    Raises TryLater("truncated_car", "incomplete_repo") when a part is missing, as in a broken download; BadInput when
    the repo is wrong: "wrong_did", "bad_signature", "bad_commit", "bad_mst", "bad_car", "bad_block_hash".
    """
    car = _whole_car(car_bytes)
    commit = _commit_of(car)
    if commit.did != did:
        raise BadInput("wrong_did", f"{commit.did} instead of {did}")
    if key is not None:
        verify_commit(commit, key)
    leaves, filtered = [], 0
    for path, cid in walk(car.blocks, commit.data):
        if collections(path.partition("/")[0]) and _is_record_path(path):
            leaves.append((path, cid, car.blocks[cid]))
        else:
            filtered += 1
    return Snapshot(did, cid_text(car.root), commit.rev, commit.data, collections, leaves, filtered)


def _whole_car(car_bytes: bytes) -> Car:
    try:
        return read_car(car_bytes)
    except BadInput as error:
        if error.reason != "truncated_car":
            raise
        raise TryLater(error.reason, error.detail) from error


def _commit_of(car: Car) -> Commit:
    block = car.blocks.get(car.root)
    if block is None:
        raise TryLater("incomplete_repo", "no commit")
    return read_commit(block)


def _is_record_path(path: str) -> bool:
    try:
        split_path(path)
    except BadInput:
        return False
    return True


def _json_of(cid: bytes, block: bytes) -> Raw | None:
    if not cid.startswith(CBOR_CID):
        return None
    try:
        return Raw(to_json(block))
    except BadInput:
        return None
