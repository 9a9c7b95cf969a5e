"""What a firehose frame becomes: every shape, what is filtered, how it ties in with its repo."""

from typing import Any

import pytest

from common.collection_filter import CollectionFilter
from common.dag_cbor import Link, cid_from_text, cid_of, cid_text, decode_header_and_body
from common.dag_json import json_to_block
from common.events import CreateEvent, DeleteEvent, RepoEvent, StreamEvent, UpdateEvent, decode_event, encode_event
from ingester.frames import events_of
from ingester.framing import ChainLink
from tests.firehose_frames import (
    COMMIT_CID,
    DATA,
    EARLIER,
    OTHER_CID,
    POST_CID,
    SIGNED,
    TIME,
    commit_frame,
    frame,
    op,
    read,
    wire,
)
from tests.recorded_frames import BASIC
from tests.signed_repos import DID, REV, car, record

# the six shapes on the wire; they are a contract: fields may be added, never renamed or left out

IN_COMMIT = {"seq": 7, "time": TIME, "did": DID, "commit": COMMIT_CID, "rev": REV}


def test_a_create_says_what_was_written_and_when_the_host_saw_it() -> None:
    assert wire(commit_frame([op("create", "app.bsky.feed.post/3k", POST_CID)])) == [
        {
            **IN_COMMIT,
            "type": "create",
            "collection": "app.bsky.feed.post",
            "rkey": "3k",
            "cid": cid_text(POST_CID),
            "record": {"$type": "app.bsky.feed.post", "text": "one", "createdAt": "2026-11-20T00:00:00.000Z"},
        }
    ]


def test_an_update_has_the_fields_of_a_create() -> None:
    ops = [op("create", "app.bsky.feed.post/3k", POST_CID), op("update", "app.bsky.feed.post/3l", POST_CID)]
    created, updated = wire(commit_frame(ops))
    assert updated == created | {"type": "update", "rkey": "3l"}


def test_a_delete_needs_no_block() -> None:
    assert wire(commit_frame([op("delete", "app.bsky.feed.post/3k")], stored=[])) == [
        {**IN_COMMIT, "type": "delete", "collection": "app.bsky.feed.post", "rkey": "3k"}
    ]


def test_a_sync_tells_the_commit_that_its_car_holds() -> None:
    raw = frame("#sync", did=DID, rev=REV, blocks=car(cid_of(SIGNED), [SIGNED]))
    assert wire(raw) == [IN_COMMIT | {"type": "repo"}]


def test_an_identity_carries_the_handle_as_a_hint() -> None:
    raw = frame("#identity", did=DID, handle="alice.test")
    assert wire(raw) == [{"type": "identity", "seq": 7, "time": TIME, "did": DID, "handle": "alice.test"}]


def test_an_identity_without_a_handle_is_not_lost() -> None:
    raw = frame("#identity", did=DID)
    assert wire(raw) == [{"type": "identity", "seq": 7, "time": TIME, "did": DID, "handle": None}]


@pytest.mark.parametrize("status", [None, "takendown", "throttled", "a status of tomorrow"])
def test_an_account_status_passes_as_it_is(status: str | None) -> None:
    raw = frame("#account", did=DID, active=False, **({} if status is None else {"status": status}))
    shape = {"type": "account", "seq": 7, "time": TIME, "did": DID, "active": False, "status": status}
    assert wire(raw) == [shape]


# what is filtered, and how it ties in


def test_operations_in_other_collections_are_filtered_and_counted() -> None:
    ops = [op("create", "com.example.thing/3k", POST_CID), op("create", "app.bsky.feed.post/3k", POST_CID)]
    result = read(commit_frame(ops))
    assert ([type(event) for event in result.events], result.filtered) == ([CreateEvent], 1)


def test_a_commit_that_is_filtered_away_is_still_seen() -> None:
    result = read(commit_frame([op("create", "com.example.thing/3k", POST_CID), op("delete", "com.example.thing/3l")]))
    assert result.events == (RepoEvent(seq=7, time=TIME, did=DID, commit=COMMIT_CID, rev=REV),)
    assert (result.received, result.filtered) == (3, 2)


def test_a_commit_without_operations_is_seen_too() -> None:
    result = read(commit_frame([]))
    assert result.events == (RepoEvent(seq=7, time=TIME, did=DID, commit=COMMIT_CID, rev=REV),)
    assert (result.seq, result.received) == (7, 1)


def test_a_commit_says_which_tree_it_makes_of_which() -> None:
    link = read(commit_frame([], since=EARLIER, prevData=Link(OTHER_CID))).link
    assert link == ChainLink(did=DID, rev=REV, since=EARLIER, data=DATA, prev_data=OTHER_CID, is_sync=False)


@pytest.mark.parametrize("since", [None, ""])
def test_a_commit_of_an_old_server_does_not_say_what_was_before(since: str | None) -> None:
    link = read(commit_frame([], since=since)).link
    assert link == ChainLink(did=DID, rev=REV, since=None, data=DATA, prev_data=None, is_sync=False)


def test_a_commit_that_is_filtered_away_has_its_place_in_the_chain() -> None:
    assert read(commit_frame([op("create", "com.example.thing/3k", POST_CID)])).link is not None


def test_a_sync_says_which_tree_there_is_now() -> None:
    link = read(frame("#sync", did=DID, rev=REV, blocks=car(cid_of(SIGNED), [SIGNED]))).link
    assert link == ChainLink(did=DID, rev=REV, since=None, data=DATA, prev_data=None, is_sync=True)


@pytest.mark.parametrize("changes", [{"rev": EARLIER}, {"repo": "did:plc:somebodysomebodysomebody"}])
def test_an_envelope_around_another_commit_ties_in_with_nothing(changes: dict[str, Any]) -> None:
    assert read(commit_frame([], **changes)).link is None


# a recorded network


def recorded_events() -> list[StreamEvent]:
    everything = CollectionFilter(("*",))
    return [decode_event(encode_event(event)) for raw in BASIC for event in events_of(raw, everything).events]


def test_every_recorded_operation_becomes_the_event_that_it_is() -> None:
    expected = []
    for header, body in map(decode_header_and_body, BASIC):
        if header["t"] == "#commit":
            expected += [(body["seq"], each["action"], each["path"]) for each in body["ops"]]
    found = [event for event in recorded_events() if isinstance(event, CreateEvent | UpdateEvent | DeleteEvent)]
    assert expected == [(event.seq, event.action, f"{event.collection}/{event.rkey}") for event in found]


def test_every_recorded_record_hashes_back_to_its_cid() -> None:
    written = [event for event in recorded_events() if isinstance(event, CreateEvent | UpdateEvent)]
    assert len(written) > 20
    assert all(cid_of(json_to_block(bytes(event.record))) == cid_from_text(event.cid) for event in written)


def test_the_operations_of_a_large_commit_all_find_their_blocks() -> None:
    blocks = {f"app.bsky.feed.post/{number}": record(f"post {number}") for number in range(50)}
    raw = commit_frame([op("create", path, cid_of(block)) for path, block in blocks.items()], stored=[*blocks.values()])
    assert len(read(raw).events) == 50
