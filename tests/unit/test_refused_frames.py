"""Every way in which a frame can be wrong: it costs that operation or that frame, and nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.dag_cbor import Link, cid_of, encode
from common.errors import BadInput
from common.events import CreateEvent, DeleteEvent, UpdateEvent
from ingester.framing import FrameResult
from tests.firehose_frames import OTHER, OTHER_CID, POST, POST_CID, SIGNED, TIME, commit_frame, frame, op, read
from tests.recorded_frames import BASIC
from tests.refusals import refusal
from tests.signed_repos import DID, REV, car, record


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


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tooBig": True}, "too_big"),
        ({"rebase": True}, "too_big"),
        ({"ops": [op("delete", f"app.bsky.feed.post/{number}") for number in range(201)]}, "oversized"),
        ({"blocks": bytes(2_000_001)}, "oversized"),
        ({"blocks": bytes(2_000_000)}, "bad_car"),
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


@pytest.mark.parametrize("kind", ["#handle", "#tombstone", "#migrate", "#tomorrow"])
def test_a_type_that_is_not_ours_to_read_only_moves_the_cursor(kind: str) -> None:
    result = read(frame(kind, did=DID))
    assert (result.kind, result.seq, result.events, result.received) == (kind, 7, (), 0)


def test_a_type_that_is_not_ours_to_read_needs_no_place_in_the_sequence() -> None:
    result = read(encode({"op": 1, "t": "#tomorrow"}) + encode({"did": DID}))
    assert (result.kind, result.seq, result.events, result.received) == ("#tomorrow", 0, (), 0)


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
