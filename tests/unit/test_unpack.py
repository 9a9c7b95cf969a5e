"""A CAR becomes one complete snapshot or nothing."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec
import pytest

from backfiller.unpack import Snapshot, unpack
from common.car import read_car, read_header, sections
from common.collection_filter import CollectionFilter
from common.dag_cbor import RAW_CID, cid_from_text, cid_of, cid_text, encode
from common.dag_json import json_to_block
from common.errors import BadInput, TryLater
from common.events import SEQ_BACKFILL, CreateEvent, DeleteEvent, RepoEvent, SnapshotPart, decode_event, encode_event
from common.keys import PublicKey, key_in_document
from common.spooled_car import SpooledBlocks
from tests.refusals import refusal
from tests.signed_repos import DID, REV, Signer, car, commit, record, repo, tree

CARS = Path(__file__).parents[1] / "data" / "cars"
DOCUMENTS = json.loads((CARS / "dids.json").read_text())
BSKY = CollectionFilter(("app.bsky.*", "chat.bsky.*"))
ALL = CollectionFilter(("*",))
SIGNER = Signer()
TIME = "2026-11-20T22:10:55.077Z"
SMALL = "did:plc:xaa2zbidn75g7mqnjoi2lvnq"
REAL = [SMALL, "did:plc:nrbvvkhsqnojpc5lp6rd52l7", "did:plc:cugacuj46dltsxlnm72craib"]

POST = record("a post")
RECORDS = {
    "app.bsky.feed.post/3mfxgt2k7ir22": POST,
    "app.bsky.feed.post/3mfxgt2k7ir23": record("another"),
    "app.bskyfoo.post/3mfxgt2k7ir22": record("not ours"),
    "com.example.thing/self": record("not ours either"),
}
Event = CreateEvent | DeleteEvent | RepoEvent


def car_bytes(did: str) -> bytes:
    return (CARS / f"{did.replace(':', '_')}.car").read_bytes()


def key_of(did: str) -> PublicKey:
    return key_in_document(DOCUMENTS[did], did)


def events(snapshot: Snapshot) -> list[Event]:
    return [decode_event(payload) for payload in snapshot.payloads(TIME)]  # type: ignore[misc]  # no others are made


def made(records: dict[str, bytes], collections: CollectionFilter = BSKY) -> Snapshot:
    return unpack(repo(records, SIGNER), DID, SIGNER.public, collections)


# what a snapshot tells


@pytest.mark.parametrize("did", REAL)
def test_a_real_repo_becomes_its_records_and_an_end(did: str) -> None:
    snapshot = unpack(car_bytes(did), did, key_of(did), BSKY)
    *records, end = events(snapshot)
    assert [event.snapshot for event in records] == [SnapshotPart(snapshot.records, i) for i in range(len(records))]
    for event in records:
        assert isinstance(event, CreateEvent)
        assert (event.did, event.seq, event.time) == (did, SEQ_BACKFILL, TIME)
        assert (event.commit, event.rev) == (snapshot.commit, snapshot.rev)
        assert cid_of(json_to_block(bytes(event.record))) == cid_from_text(event.cid)
    assert isinstance(end, RepoEvent)
    assert end.snapshot == SnapshotPart(snapshot.records, snapshot.records, BSKY.patterns)
    assert (end.commit, end.rev) == (snapshot.commit, snapshot.rev)


@pytest.mark.parametrize("did", REAL)
def test_the_records_and_the_filtered_make_up_the_tree(did: str) -> None:
    everything = unpack(car_bytes(did), did, key_of(did), ALL)
    ours = unpack(car_bytes(did), did, key_of(did), BSKY)
    assert everything.filtered == 0
    assert everything.records == ours.records + ours.filtered > 0


def test_the_events_are_those_of_the_records_that_pass() -> None:
    snapshot = made(RECORDS)
    first, second, end = events(snapshot)
    assert (snapshot.records, snapshot.filtered, snapshot.unreadable) == (2, 2, 0)
    assert isinstance(first, CreateEvent)
    assert first.uri == f"at://{DID}/app.bsky.feed.post/3mfxgt2k7ir22"
    assert first.cid == cid_text(cid_of(POST))
    assert first.rev == REV
    assert msgspec.json.decode(first.record)["text"] == "a post"
    assert isinstance(second, CreateEvent)
    assert second.rkey == "3mfxgt2k7ir23"
    assert isinstance(end, RepoEvent)


def test_the_events_survive_the_stream() -> None:
    """As they would if each were encoded by itself, whatever is in its DID."""
    did = "did:web:localhost%3A8080"
    snapshot = unpack(repo(RECORDS, SIGNER, did=did), did, SIGNER.public, BSKY)
    drawn = list(snapshot.payloads(TIME))
    assert [encode_event(decode_event(payload)) for payload in drawn] == drawn
    assert {decode_event(payload).did for payload in drawn} == {did}


def test_an_empty_repo_is_a_snapshot_too() -> None:
    (end,) = events(made({}))
    assert isinstance(end, RepoEvent)
    assert end.snapshot == SnapshotPart(0, 0, BSKY.patterns)


@pytest.mark.parametrize("unreadable", [encode(["not a map"]), encode({"n": 1 << 60}), b"\xff", b""])
def test_a_record_that_cannot_be_read_keeps_its_place_as_a_delete(unreadable: bytes) -> None:
    snapshot = made({"app.bsky.feed.post/a": POST, "app.bsky.feed.post/b": unreadable, "app.bsky.feed.post/c": POST})
    first, second, third, end = events(snapshot)
    assert isinstance(second, DeleteEvent)
    assert (second.rkey, second.rev, second.snapshot) == ("b", REV, SnapshotPart(3, 1))
    assert (first.snapshot, third.snapshot, end.snapshot) == (
        SnapshotPart(3, 0),
        SnapshotPart(3, 2),
        SnapshotPart(3, 3, BSKY.patterns),
    )
    assert (snapshot.records, snapshot.unreadable) == (3, 1)


def test_a_record_that_is_a_raw_block_cannot_be_read() -> None:
    raw = RAW_CID + cid_of(POST)[4:]
    top, nodes = tree({"app.bsky.feed.post/a": raw})
    signed = commit(top, SIGNER)
    snapshot = unpack(car(cid_of(signed), [signed, *nodes.values(), (raw, POST)]), DID, SIGNER.public, BSKY)
    assert isinstance(events(snapshot)[0], DeleteEvent)


def test_drawing_the_events_twice_counts_once() -> None:
    snapshot = made({"app.bsky.feed.post/a": b"\xff"})
    assert events(snapshot) == events(snapshot)
    assert snapshot.unreadable == 1


@pytest.mark.parametrize("path", ["app.bsky.feed.post/.", "app.bsky.feed.post/" + "x" * 513, "app.bsky.feed-/x"])
def test_a_path_under_which_nothing_can_be_indexed_is_filtered(path: str) -> None:
    snapshot = made({"app.bsky.feed.post/a": POST, path: POST})
    assert (snapshot.records, snapshot.filtered) == (1, 1)


def test_payloads_are_made_as_they_are_drawn() -> None:
    drawn = made({"app.bsky.feed.post/a": POST, "app.bsky.feed.post/b": POST}).payloads(TIME)
    assert iter(drawn) is drawn
    assert isinstance(decode_event(next(drawn)), CreateEvent)


# whose it is


def test_a_repo_of_somebody_else_is_refused() -> None:
    other = "did:plc:somebodyelsesomebodyelse"
    assert refusal(unpack, repo(RECORDS, SIGNER), other, SIGNER.public, BSKY) == "wrong_did"


def test_a_repo_signed_by_another_key_is_refused_unless_there_is_no_key_to_ask() -> None:
    data = repo(RECORDS, SIGNER)
    assert refusal(unpack, data, DID, Signer(number=8).public, BSKY) == "bad_signature"
    assert unpack(data, DID, None, BSKY).records == 2


def test_a_repo_may_be_signed_with_p256() -> None:
    signer = Signer("p256")
    assert unpack(repo(RECORDS, signer), DID, signer.public, BSKY).records == 2


# all or nothing, in memory or in a file


@contextmanager
def in_memory(data: bytes) -> Iterator[bytes]:
    yield data


@contextmanager
def in_a_file(data: bytes) -> Iterator[mmap]:
    with TemporaryFile() as file:
        file.write(data)
        file.flush()
        with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            yield mapped


Form = Callable[[bytes], AbstractContextManager[bytes | mmap]]
forms = pytest.mark.parametrize("form", [in_memory, in_a_file])


@pytest.mark.parametrize("did", REAL)
@pytest.mark.parametrize("collections", [BSKY, ALL])
def test_a_repo_in_a_file_is_the_same_snapshot(did: str, collections: CollectionFilter) -> None:
    in_one = unpack(car_bytes(did), did, key_of(did), collections)
    with in_a_file(car_bytes(did)) as mapped:
        other = unpack(mapped, did, key_of(did), collections)
        assert events(other) == events(in_one)
        assert events(other) == events(in_one)  # drawn again
    assert (other.records, other.filtered, other.unreadable) == (in_one.records, in_one.filtered, in_one.unreadable)


def outcome(data: bytes, did: str, form: Form) -> str | Snapshot:
    try:
        with form(data) as car:
            return unpack(car, did, key_of(did), BSKY)
    except (BadInput, TryLater) as error:
        return type(error).__name__


@forms
def test_a_download_that_was_cut_anywhere_is_tried_again(form: Form) -> None:
    data = car_bytes(SMALL)
    assert {outcome(data[:end], SMALL, form) for end in range(1, len(data))} == {"TryLater"}
    assert outcome(b"", SMALL, in_memory) == "TryLater"


@forms
@pytest.mark.parametrize("did", REAL[1:])
def test_a_download_that_was_cut_between_two_blocks_is_tried_again(did: str, form: Form) -> None:
    data = car_bytes(did)
    starts = [start for start, _, _ in sections(data, read_header(data)[1])]
    assert len(starts) > 3
    assert {outcome(data[:end], did, form) for end in starts} == {"TryLater"}


@forms
def test_a_changed_byte_anywhere_is_never_a_snapshot(form: Form) -> None:
    data = car_bytes(SMALL)
    for at in range(len(data)):
        changed = data[:at] + bytes((data[at] ^ 0x55,)) + data[at + 1 :]
        assert outcome(changed, SMALL, form) in ("BadInput", "TryLater"), at


def test_the_blocks_of_a_file_are_found_by_their_cids_however_often_they_are_there() -> None:
    found = read_car(car_bytes(SMALL))
    everything = car(found.root, [*found.blocks.values(), record("a stranger"), *reversed(found.blocks.values())])
    with in_a_file(everything) as mapped:
        blocks = SpooledBlocks(mapped)
        stranger = record("a stranger")
        assert dict(blocks) == {**found.blocks, cid_of(stranger): stranger}
        assert len(blocks) == len(found.blocks) + 1
        assert cid_of(record("not there")) not in blocks
        assert blocks.get(cid_of(record("not there"))) is None
        assert all(cid in blocks for cid in found.blocks)


def test_the_order_of_the_blocks_does_not_matter_nor_what_else_is_there() -> None:
    found = read_car(car_bytes(SMALL))
    shuffled = car(found.root, [record("a stranger"), *reversed(found.blocks.values()), *found.blocks.values()])
    assert events(unpack(shuffled, SMALL, key_of(SMALL), BSKY)) == events(unpack(car_bytes(SMALL), SMALL, None, BSKY))


def without(name: str) -> bytes:
    top, nodes = tree({path: cid_of(block) for path, block in RECORDS.items()})
    signed = commit(top, SIGNER)
    parts: dict[str, list[bytes]] = {
        "commit": [signed],
        "tree": list(nodes.values()),
        "records": list(RECORDS.values()),
    }
    return car(cid_of(signed), [block for part, blocks in parts.items() if part != name for block in blocks])


@forms
@pytest.mark.parametrize("name", ["commit", "tree", "records"])
def test_a_repo_without_a_part_is_tried_again(name: str, form: Form) -> None:
    with form(without(name)) as car, pytest.raises(TryLater, match="incomplete_repo"):
        unpack(car, DID, SIGNER.public, BSKY)


def test_a_filtered_record_must_be_there_all_the_same() -> None:
    top, nodes = tree({path: cid_of(block) for path, block in RECORDS.items()})
    signed = commit(top, SIGNER)
    kept: list[Any] = [block for path, block in RECORDS.items() if BSKY(path.partition("/")[0])]
    with pytest.raises(TryLater, match="incomplete_repo"):
        unpack(car(cid_of(signed), [signed, *nodes.values(), *kept]), DID, SIGNER.public, BSKY)
