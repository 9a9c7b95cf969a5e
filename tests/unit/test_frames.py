"""What a firehose frame becomes: every shape, and every way to be wrong without costing anything else."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.collection_filter import CollectionFilter
from common.dag_cbor import Link, cid_from_text, cid_of, cid_text, decode_header_and_body, encode
from common.dag_json import json_to_block
from common.errors import BadInput
from common.events import CreateEvent, DeleteEvent, RepoEvent, StreamEvent, UpdateEvent, decode_event, encode_event
from ingester.accounts import units
from ingester.frames import events_of
from ingester.framing import ChainLink, FrameResult
from tests.recorded_frames import BASIC
from tests.refusals import refusal
from tests.signed_repos import DID, REV, Signer, car, commit, record

TIME = "2026-11-20T22:33:50.656Z"
WANTED = CollectionFilter(("app.bsky.*", "chat.bsky.*"))
POST, OTHER = record("one"), record("two")
POST_CID, OTHER_CID = cid_of(POST), cid_of(OTHER)
SIGNED = commit(cid_of(b"\xa0"), Signer())
COMMIT_CID = cid_text(cid_of(SIGNED))
Op = dict[str, Any]


def frame(kind: str, **body: Any) -> bytes:
    return encode({"op": 1, "t": kind}) + encode({"seq": 7, "time": TIME} | body)


def op(action: str, path: str, cid: bytes | None = None) -> Op:
    return {"action": action, "path": path, "cid": None if cid is None else Link(cid)}


def commit_frame(operations: Sequence[Any], stored: Sequence[Any] = (POST, OTHER), **changes: Any) -> bytes:
    body: dict[str, Any] = {
        "repo": DID,
        "commit": Link(cid_of(SIGNED)),
        "rev": REV,
        "since": None,
        "blocks": car(cid_of(SIGNED), [SIGNED, *stored]),
        "ops": list(operations),
        "tooBig": False,
        "rebase": False,
        "blobs": [],
    }
    return frame("#commit", **(body | changes))


def read(raw: bytes) -> FrameResult:
    """The result, whose account must add up."""
    result = events_of(raw, WANTED)
    assert result.received == units(result.events) + result.filtered + sum(result.dropped.values())
    return result


def wire(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(encode_event(event)) for event in read(raw).events]


# the six shapes on the wire; they are a contract: fields may be added, never renamed or left out


def test_a_create_says_what_was_written_and_when_the_host_saw_it() -> None:
    assert wire(commit_frame([op("create", "app.bsky.feed.post/3k", POST_CID)])) == [
        {
            "type": "create",
            "seq": 7,
            "time": TIME,
            "did": DID,
            "commit": COMMIT_CID,
            "rev": REV,
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
        {
            "type": "delete",
            "seq": 7,
            "time": TIME,
            "did": DID,
            "commit": COMMIT_CID,
            "rev": REV,
            "collection": "app.bsky.feed.post",
            "rkey": "3k",
        }
    ]


def test_a_sync_tells_the_commit_that_its_car_holds() -> None:
    raw = frame("#sync", did=DID, rev=REV, blocks=car(cid_of(SIGNED), [SIGNED]))
    assert wire(raw) == [{"type": "repo", "seq": 7, "time": TIME, "did": DID, "commit": COMMIT_CID, "rev": REV}]


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


# the filter


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


# how a frame ties in with its repo


DATA = cid_of(b"\xa0")
EARLIER = "3mfxgt2k7irck"


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


# one bad operation costs none of its siblings


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (op("create", "app.bsky.feed.post/bad", cid_of(b"absent")), "missing_block"),
        (op("create", "app.bsky.feed.post/bad"), "bad_op"),
        (op("create", "app.bsky.feed.post/bad") | {"cid": "bafytext"}, "bad_op"),
        (op("create", "app.bsky.feed.post/..", POST_CID), "bad_path"),
        (op("create", "app.bsky.feed.post", POST_CID), "bad_path"),
        (op("create", "app.bsky.feed.post/a/b", POST_CID), "bad_path"),
        (op("move", "app.bsky.feed.post/bad", POST_CID), "unknown_action"),
        ({"action": "delete"}, "bad_op"),
        ("no map at all", "bad_op"),
    ],
)
def test_a_bad_operation_costs_none_of_its_siblings(bad: Any, reason: str) -> None:
    siblings = [op("create", "app.bsky.feed.post/one", POST_CID), op("update", "app.bsky.feed.post/two", OTHER_CID)]
    result = read(commit_frame([siblings[0], bad, siblings[1]]))
    assert [type(event) for event in result.events] == [CreateEvent, UpdateEvent]
    assert result.dropped == {reason: 1}


def test_a_block_that_does_not_hash_to_its_cid_costs_only_its_own_operation() -> None:
    ops = [op("create", "app.bsky.feed.post/one", POST_CID), op("create", "app.bsky.feed.post/two", OTHER_CID)]
    result = read(commit_frame(ops, stored=[(POST_CID, record("forged")), OTHER]))
    assert [event.rkey for event in result.events if isinstance(event, CreateEvent)] == ["two"]
    assert result.dropped == {"bad_block_hash": 1}


@pytest.mark.parametrize(
    ("block", "reason"), [(encode([1]), "bad_record"), (encode({"$link": "x"}), "bad_record"), (b"\xff", "bad_cbor")]
)
def test_a_record_that_is_none_costs_only_its_own_operation(block: bytes, reason: str) -> None:
    ops = [op("create", "app.bsky.feed.post/one", cid_of(block)), op("create", "app.bsky.feed.post/two", OTHER_CID)]
    result = read(commit_frame(ops, stored=[block, OTHER]))
    assert (len(result.events), result.dropped) == (1, {reason: 1})


def test_the_last_operation_on_a_path_is_the_one_that_counts() -> None:
    path = "app.bsky.feed.post/3k"
    result = read(commit_frame([op("create", path, POST_CID), op("update", path, OTHER_CID), op("delete", path)]))
    assert ([type(event) for event in result.events], result.dropped) == ([DeleteEvent], {"superseded": 2})


# frames that are dropped whole


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tooBig": True}, "too_big"),
        ({"rebase": True}, "too_big"),
        ({"ops": [op("delete", f"app.bsky.feed.post/{number}") for number in range(201)]}, "oversized"),
        ({"blocks": bytes(2_000_001)}, "oversized"),
        ({"repo": "alice.test"}, "bad_frame"),
        ({"rev": "yesterday"}, "bad_frame"),
        ({"time": "yesterday"}, "bad_frame"),
        ({"time": None}, "bad_frame"),
        ({"ops": None}, "bad_frame"),
        ({"commit": None}, "bad_cid"),
        ({"blocks": b""}, "truncated_car"),
        ({"blocks": car(cid_of(SIGNED), [SIGNED, POST])[:-1]}, "truncated_car"),
        ({"blocks": b"\x01\x02"}, "bad_car"),
    ],
)
def test_a_commit_that_is_of_no_use_moves_the_cursor_and_brings_no_event(changes: Any, reason: str) -> None:
    result = read(commit_frame([op("create", "app.bsky.feed.post/3k", POST_CID)], **changes))
    assert (result.seq, result.events, result.dropped) == (7, (), {reason: 1})


def test_two_hundred_operations_are_not_too_many() -> None:
    ops = [op("delete", f"app.bsky.feed.post/{number}") for number in range(200)]
    assert len(read(commit_frame(ops)).events) == 200


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (frame("#sync", did=DID, rev=REV, blocks=car(cid_of(SIGNED), [POST])), "missing_block"),
        (frame("#sync", did=DID, rev=REV, blocks=bytes(10_001)), "oversized"),
        (frame("#sync", did=DID, rev=REV), "bad_frame"),
        (frame("#identity", did="did:"), "bad_frame"),
        (frame("#account", did=DID, active="yes"), "bad_frame"),
        (frame("#account", did=DID, active=True, time=5), "bad_frame"),
    ],
)
def test_other_events_that_are_wrong_move_the_cursor(raw: bytes, reason: str) -> None:
    result = read(raw)
    assert (result.seq, result.events, result.dropped) == (7, (), {reason: 1})


@pytest.mark.parametrize("blobs", [[Link(cid_of(POST))], ["bafytext"], [{"a": [1]}], "text", None])
def test_whatever_stands_in_blobs_costs_nothing(blobs: Any) -> None:
    assert len(read(commit_frame([op("create", "app.bsky.feed.post/3k", POST_CID)], blobs=blobs)).events) == 1


def test_unknown_fields_are_no_reason_to_drop() -> None:
    ops = [op("create", "app.bsky.feed.post/3k", POST_CID) | {"prev": None, "new": 1}]
    assert len(read(commit_frame(ops, new={"a": 1}, prevData=Link(POST_CID))).events) == 1


# messages that bring no events


@pytest.mark.parametrize("kind", ["#handle", "#tombstone", "#migrate", "#tomorrow"])
def test_a_type_that_is_not_ours_to_read_only_moves_the_cursor(kind: str) -> None:
    result = read(frame(kind, did=DID))
    assert (result.kind, result.seq, result.events, result.received) == (kind, 7, (), 0)


def test_a_notice_has_its_name_and_no_place_in_the_sequence() -> None:
    result = read(frame("#info", name="OutdatedCursor", message="too old"))
    assert (result.kind, result.seq, result.name, result.text) == ("#info", 0, "OutdatedCursor", "too old")


def test_an_error_frame_is_told_by_its_name() -> None:
    result = read(encode({"op": -1}) + encode({"error": "FutureCursor", "message": "ahead"}))
    assert (result.kind, result.seq, result.name, result.text) == ("error", 0, "FutureCursor", "ahead")


def test_an_unknown_operation_of_the_protocol_is_ignored() -> None:
    assert read(encode({"op": 2, "t": "#commit"}) + encode({"seq": 9})) == FrameResult(kind="unknown")


@pytest.mark.parametrize("seq", [0, -1, 2**53, True, "7", 7.5])
def test_a_sequence_number_that_is_none_makes_the_frame_unreadable(seq: Any) -> None:
    assert refusal(read, frame("#identity", did=DID, seq=seq)) == "bad_frame"


def test_an_event_without_a_sequence_number_is_unreadable() -> None:
    raw = encode({"op": 1, "t": "#identity"}) + encode({"did": DID, "time": TIME})
    assert refusal(read, raw) == "bad_frame"


def test_a_frame_cut_anywhere_is_unreadable_and_nothing_worse() -> None:
    raw = commit_frame([op("create", "app.bsky.feed.post/3k", POST_CID)])
    assert {refusal(read, raw[:length]) for length in range(len(raw))} == {"bad_cbor"}
    assert refusal(read, raw + b"\x00") == "bad_cbor"


@given(st.sampled_from(BASIC), st.data())
def test_a_damaged_frame_is_refused_or_accounted_for(raw: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(raw) - 1))
    damaged = raw[:at] + data.draw(st.binary(min_size=1, max_size=4)) + raw[at + 1 :]
    try:
        read(damaged)
    except BadInput as bad:
        assert bad.reason in ("bad_cbor", "bad_frame")  # noqa: PT017 - both ways out are right


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
