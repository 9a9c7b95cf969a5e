"""What a snapshot tells: its records as events, in their places, and an end; and whose it must be."""

import msgspec
import pytest

from backfiller.unpack import unpack
from common.dag_cbor import RAW_CID, cid_from_text, cid_of, cid_text, encode
from common.dag_json import json_to_block
from common.events import SEQ_BACKFILL, CreateEvent, DeleteEvent, RepoEvent, SnapshotPart, decode_event, encode_event
from tests.refusals import refusal
from tests.signed_repos import DID, REV, Signer, car, commit, repo, tree
from tests.unpacking import ALL, BSKY, POST, REAL, RECORDS, SIGNER, TIME, events, made
from tests.vector_files import key_of, real_car


@pytest.mark.parametrize("did", REAL)
def test_a_real_repo_becomes_its_records_and_an_end(did: str) -> None:
    snapshot = unpack(real_car(did), did, key_of(did), BSKY)
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
    everything = unpack(real_car(did), did, key_of(did), ALL)
    ours = unpack(real_car(did), did, key_of(did), BSKY)
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
