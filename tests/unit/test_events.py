"""Entries of the streams as others write them, and as we do; frames are in test_frames.py."""

import json
from typing import Any

import pytest
from msgspec import UNSET

from common.events import (
    AccountEvent,
    CreateEvent,
    DeleteEvent,
    IdentityEvent,
    Label,
    LabelEvent,
    RepoEvent,
    RepoJob,
    UpdateEvent,
    decode_event,
    decode_job,
    decode_labels,
    encode_event,
)
from tests import factories as make
from tests.factories import ALICE, BOB, POST
from tests.refusals import refusal

# as rsky's ingester writes them: wall clock with nanoseconds, capitalised statuses, fields that we do not know
THEIR_COMMIT = {"seq": 7, "time": "2025-10-29T10:11:12.123456789+00:00", "did": ALICE, "commit": "bafyc", "rev": "3lj"}
THEIR_CREATE = {
    "type": "create",
    **THEIR_COMMIT,
    **{"collection": POST, "rkey": "3k", "cid": "bafyr", "record": {"b": 1, "a": [1.5, None, {"$link": "bafy"}]}},
}
THEIR_DELETE = {"type": "delete", **THEIR_COMMIT, "collection": POST, "rkey": "3k"}
THEIR_REPO = {"type": "repo", **THEIR_COMMIT}
THEIR_ACCOUNT = {**{"type": "account", "seq": 7, "time": "t", "did": ALICE, "active": False}, "status": "Takendown"}
THEIR_IDENTITY = {"type": "identity", "seq": 7, "time": "t", "did": ALICE, "handle": "alice.test"}
THEIR_JOB = {"did": ALICE, "host": "https://bsky.network", "rev": "3lj", "status": None, "active": True}
THEIR_LABEL = {"src": BOB, "uri": ALICE, "cid": None, "val": "spam", "neg": None, "cts": "2025-10-29 10:11:12 UTC"}
EVENTS = [THEIR_CREATE, {**THEIR_CREATE, "type": "update"}, THEIR_DELETE, THEIR_REPO, THEIR_ACCOUNT, THEIR_IDENTITY]


def wire(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("entry", EVENTS, ids=lambda entry: entry["type"])
def test_an_event_of_another_implementation_keeps_all_that_it_says(entry: dict[str, Any]) -> None:
    assert json.loads(encode_event(decode_event(wire(entry)))) == entry


@pytest.mark.parametrize("entry", EVENTS, ids=lambda entry: entry["type"])
def test_fields_that_are_new_to_us_do_no_harm(entry: dict[str, Any]) -> None:
    assert decode_event(wire(entry | {"since": {"a": [1]}})) == decode_event(wire(entry))


MAY_BE_LEFT_OUT = {"repo": {"seq"}, "account": {"seq", "status"}, "identity": {"seq", "handle"}}


@pytest.mark.parametrize("entry", EVENTS, ids=lambda entry: entry["type"])
def test_a_field_of_the_contract_must_be_there(entry: dict[str, Any]) -> None:
    needed = entry.keys() - MAY_BE_LEFT_OUT.get(entry["type"], set())
    for name in needed:
        without = {field: value for field, value in entry.items() if field != name}
        assert refusal(decode_event, wire(without)) == "bad_entry", name
    for name in entry.keys() - needed:
        decode_event(wire({field: value for field, value in entry.items() if field != name}))


@pytest.mark.parametrize("entry", EVENTS, ids=lambda entry: entry["type"])
def test_a_field_of_another_type_is_refused(entry: dict[str, Any]) -> None:
    for name in entry.keys() - {"record"}:
        assert refusal(decode_event, wire(entry | {name: [5]})) == "bad_entry", name


def test_without_a_sequence_number_it_comes_from_a_backfill() -> None:
    for entry in (THEIR_REPO, THEIR_ACCOUNT, THEIR_IDENTITY):
        event = decode_event(wire({name: value for name, value in entry.items() if name != "seq"}))
        assert event.seq == -1


def test_a_handle_may_be_null() -> None:
    assert decode_event(wire(THEIR_IDENTITY | {"handle": None})) == IdentityEvent(time="t", did=ALICE, seq=7)


def test_a_record_is_carried_byte_for_byte() -> None:
    text = '{ "z":1.0, "a":"\\u00e9é\\u0000", "n":9007199254740993, "$type":"app.bsky.feed.post" }'
    payload = wire(THEIR_CREATE | {"record": "HERE"}).replace(b'"HERE"', text.encode())
    event = decode_event(payload)
    assert isinstance(event, CreateEvent)
    assert bytes(event.record) == text.encode()
    assert text.encode() in encode_event(event)


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"{", b"null", b"[]", b"5", b'"create"', b"\xff\xfe", wire({}), wire({"type": "handle"})),
        wire({**THEIR_CREATE, "type": "tombstone"}),
        wire(THEIR_CREATE)[:-1],
        wire(THEIR_CREATE | {"did": "HERE"}).replace(b"HERE", b"\xff"),
        wire(THEIR_CREATE | {"seq": 1e400}),
        wire(THEIR_CREATE | {"extra": "HERE"}).replace(b'"HERE"', b"[" * 100_000 + b"]" * 100_000),
    ],
)
def test_what_is_no_event_is_refused_whatever_it_is(payload: bytes) -> None:
    assert refusal(decode_event, payload) == "bad_entry"
    assert refusal(decode_labels, payload) == "bad_entry"


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"\xff", b'{"did":"\xff"}', b'{"did":' + b"[" * 100_000])
def test_what_is_no_job_is_refused_whatever_it_is(payload: bytes) -> None:
    assert refusal(decode_job, payload) == "bad_entry"


def test_a_live_event_says_nothing_of_snapshots() -> None:
    for event in (make.create(ALICE, "3k", make.post(), 1), make.sync(ALICE, 1)):
        assert b"snapshot" not in encode_event(event)


def test_parts_of_a_snapshot_say_where_they_stand() -> None:
    records = {(POST, "a"): make.post("a"), (POST, "b"): None}
    parts = [json.loads(encode_event(event)) for event in make.snapshot(ALICE, records, 1, collections=("app.bsky.*",))]
    assert [part["snapshot"] for part in parts] == [
        {"records": 2, "index": 0},
        {"records": 2, "index": 1},
        {"records": 2, "index": 2, "collections": ["app.bsky.*"]},
    ]
    assert [(part["type"], part["seq"]) for part in parts] == [("create", -1), ("delete", -1), ("repo", -1)]


def test_whatever_we_write_we_read_back() -> None:
    events = [
        make.create(ALICE, "3k", make.post(), 1),
        make.update(ALICE, "3k", make.post("two"), 2),
        make.delete(ALICE, POST, "3k", 3),
        make.sync(ALICE, 4),
        make.account(ALICE, 5, active=False, status="suspended"),
        make.identity(ALICE, 6),
        *make.snapshot(ALICE, {(POST, "a"): make.post("a")}, 7),
    ]
    kinds = {CreateEvent, UpdateEvent, DeleteEvent, RepoEvent, AccountEvent, IdentityEvent}
    assert {type(event) for event in events} == kinds
    assert [decode_event(encode_event(event)) for event in events] == events


def test_the_uri_of_a_record_is_made_of_its_parts() -> None:
    assert make.delete(ALICE, POST, "3k", 1).uri == f"at://{ALICE}/{POST}/3k"


def test_labels_are_read_with_what_others_leave_out() -> None:
    event = decode_labels(wire({"seq": 5, "labels": [THEIR_LABEL, {**THEIR_LABEL, "ver": 1, "exp": "t", "neg": True}]}))
    plain = Label(src=BOB, uri=ALICE, val="spam", cts="2025-10-29 10:11:12 UTC")
    assert event.labels == (plain, Label(src=BOB, uri=ALICE, val="spam", cts=plain.cts, neg=True, exp="t"))
    few = {name: value for name, value in THEIR_LABEL.items() if value is not None}
    assert decode_labels(wire({"seq": 5, "labels": [few]})).labels == (plain,)


def test_labels_are_written_with_every_field_of_the_contract() -> None:
    written = json.loads(encode_event(make.labels(make.label(ALICE, "spam", 1), seq=9)))
    assert written.keys() == {"seq", "labels"}
    assert written["labels"][0].keys() >= THEIR_LABEL.keys()


@pytest.mark.parametrize("name", ["src", "uri", "val", "cts"])
def test_a_label_that_lacks_something_is_refused(name: str) -> None:
    label = {field: value for field, value in THEIR_LABEL.items() if field != name}
    assert refusal(decode_labels, wire({"seq": 5, "labels": [label]})) == "bad_entry"


def test_a_job_is_read_as_others_write_it() -> None:
    assert decode_job(wire(THEIR_JOB)) == RepoJob(did=ALICE, host="https://bsky.network", rev="3lj")
    assert json.loads(encode_event(decode_job(wire(THEIR_JOB)))) == THEIR_JOB | {"attempts": 0}


def test_a_person_may_write_a_job_by_hand() -> None:
    assert decode_job(wire({"did": ALICE})) == RepoJob(did=ALICE, active=True, attempts=0)
    assert refusal(decode_job, wire({"host": "https://bsky.network"})) == "bad_entry"


def test_an_absent_filter_is_not_an_empty_one() -> None:
    closing = make.snapshot(ALICE, {}, 1, collections=())[-1]
    assert isinstance(closing, RepoEvent)
    assert closing.snapshot
    assert closing.snapshot.collections is UNSET
    assert decode_event(encode_event(closing)) == closing


def test_events_compare_by_what_they_say() -> None:
    assert make.labels(make.label(ALICE, "spam", 1)) == LabelEvent(seq=1, labels=(make.label(ALICE, "spam", 1),))
