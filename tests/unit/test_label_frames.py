"""What a labeler's frame becomes: the labels as they were written, without those that are none."""

import json
from typing import Any

import pytest

from common.dag_cbor import encode
from common.events import encode_event
from ingester.accounts import units
from ingester.framing import FrameResult
from ingester.label_frames import events_of
from tests.refusals import refusal

LABELER, ACCOUNT = "did:plc:labelerlabelerlabelerlab", "did:plc:accountaccountaccountacc"
POST = f"at://{ACCOUNT}/app.bsky.feed.post/3k"
CTS = "2026-11-20T22:34:24.7Z"
LABEL = {"ver": 1, "src": LABELER, "uri": POST, "val": "spam", "cts": CTS, "sig": bytes(64)}


def frame(*labels: Any, **body: Any) -> bytes:
    return encode({"op": 1, "t": "#labels"}) + encode({"seq": 7, "labels": list(labels)} | body)


def read(raw: bytes) -> FrameResult:
    """The result, whose account must add up."""
    result = events_of(raw)
    assert result.received == units(result.events) + result.filtered + sum(result.dropped.values())
    return result


def test_labels_go_on_in_one_event_as_the_labeler_wrote_them() -> None:
    raw = frame(LABEL, LABEL | {"uri": ACCOUNT, "cid": "bafyx", "neg": True, "exp": "2026-11-20T23:34:24Z"})
    shared = {"src": LABELER, "val": "spam", "cts": CTS}
    assert [json.loads(encode_event(event)) for event in read(raw).events] == [
        {
            "seq": 7,
            "labels": [
                shared | {"uri": POST, "cid": None, "neg": None, "exp": None},
                shared | {"uri": ACCOUNT, "cid": "bafyx", "neg": True, "exp": "2026-11-20T23:34:24Z"},
            ],
        }
    ]


@pytest.mark.parametrize(
    "bad",
    [
        {"ver": 2},
        {"src": "alice.test"},
        {"src": None},
        {"uri": "https://example.com"},
        {"val": ""},
        {"val": "é" * 65},
        {"cts": 5},
        {"cid": b"\x01"},
        {"neg": "yes"},
        {"exp": 5},
    ],
)
def test_a_bad_label_costs_none_of_its_siblings(bad: dict[str, Any]) -> None:
    result = read(frame(LABEL, LABEL | bad, LABEL))
    assert (units(result.events), result.dropped) == (2, {"bad_label": 1})


def test_a_label_that_is_no_map_is_dropped() -> None:
    assert read(frame("spam")).dropped == {"bad_label": 1}


def test_a_frame_without_good_labels_moves_the_cursor_and_brings_no_event() -> None:
    result = read(frame(LABEL | {"val": ""}))
    assert (result.seq, result.events, result.received) == (7, (), 1)


def test_a_label_without_a_version_or_signature_is_taken() -> None:
    unsigned = {name: value for name, value in LABEL.items() if name not in ("ver", "sig")}
    assert units(read(frame(unsigned)).events) == 1


def test_the_event_time_is_that_of_the_last_label_if_it_is_one() -> None:
    assert read(frame(LABEL)).time == CTS
    assert read(frame(LABEL | {"cts": "yesterday"})).time == ""


def test_labels_that_are_no_list_move_the_cursor() -> None:
    result = read(frame(labels=5))
    assert (result.seq, result.dropped) == (7, {"bad_frame": 1})


def test_labels_without_a_sequence_number_are_unreadable() -> None:
    assert refusal(read, frame(LABEL, seq=0)) == "bad_frame"
    assert refusal(read, encode({"op": 1, "t": "#labels"}) + encode({"labels": [LABEL]})) == "bad_frame"


def test_notices_and_unknown_types_bring_nothing() -> None:
    assert read(encode({"op": 1, "t": "#info"}) + encode({"name": "OutdatedCursor"})).name == "OutdatedCursor"
    assert read(encode({"op": 1, "t": "#tomorrow"}) + encode({"seq": 8})).seq == 8
