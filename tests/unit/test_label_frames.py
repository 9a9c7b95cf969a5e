"""What a labeler's frame becomes: the labels as they were written, without those that are none."""

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.dag_cbor import encode
from common.did_documents import parse_document
from common.events import encode_event
from common.keys import key_of_multikey, verify
from indexer.lexicon_formats import normalised
from ingester.accounts import units
from ingester.framing import FrameResult
from ingester.label_frames import events_of, labels_of, without_refused
from sluice.recording import Recording
from tests.labelers import ACCOUNT, CTS, LABELER, POST, frame, label
from tests.refusals import refusal

VECTORS = Path(__file__).parents[1] / "data" / "vectors"
LABEL = label(sig=bytes(64))


def read(raw: bytes) -> FrameResult:
    """The result, whose account must add up."""
    result = accounted(events_of(raw))
    assert len(result.signed) == units(result.events)
    return result


def accounted(result: FrameResult) -> FrameResult:
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


def test_a_real_label_is_signed_over_what_is_made_of_it() -> None:
    vector = json.loads((VECTORS / "labels" / "signed_label.json").read_text())
    fields = vector["label"] | {"sig": b64decode(vector["label"]["sig"]["$bytes"] + "==")}
    key = key_of_multikey(vector["publicKeyMultibase"])

    def is_signed(**changes: Any) -> bool:
        (it,) = read(frame(fields | changes)).signed
        return verify(key, it.message, it.signature)

    assert is_signed()
    changed = {"uri": POST, "val": "other", "cts": CTS, "src": LABELER, "neg": True, "exp": CTS}
    assert not any(is_signed(**{name: value}) for name, value in changed.items())


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
        {"cts": "yesterday"},
        {"cts": "2026-11-20 22:34:24 UTC"},
        {"cts": "2026-11-20"},
        {"cts": "2026-02-30T00:00:00Z"},
        {"cts": "2026-11-20T22:34:24-00:00"},
        {"cts": "0001-01-01T00:00:00+01:00"},
        {"exp": "9999-12-31T23:59:59-01:00"},
        {"exp": "never"},
        {"exp": ""},
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


def test_a_label_without_a_version_is_of_the_first() -> None:
    assert units(read(frame({name: value for name, value in LABEL.items() if name != "ver"})).events) == 1


@pytest.mark.parametrize(
    "text",
    [
        CTS,
        "2026-11-20T22:34:24Z",
        "2026-11-20T22:34:24.123456789+09:30",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
    ],
)
def test_a_time_that_is_let_through_is_one_that_the_indexer_can_read(text: str) -> None:
    assert normalised(read(frame(LABEL | {"cts": text, "exp": text})).time)


def test_the_event_time_is_that_of_the_last_label() -> None:
    assert read(frame(LABEL, LABEL | {"cts": "2026-11-20T22:34:25Z"})).time == "2026-11-20T22:34:25Z"


def test_what_is_signed_is_all_that_was_said_but_the_signature() -> None:
    fields = label(neg=True, exp=CTS, tomorrow=[1, {"b": b"x", "aa": None}])
    (signed,) = read(frame(fields | {"sig": b"s" * 64, "$type": "com.atproto.label.defs#label"})).signed
    assert (signed.message, signed.signature) == (encode(fields), b"s" * 64)


@pytest.mark.parametrize("sig", [None, "text", 5, {"$bytes": "AAAA"}])
def test_what_is_no_signature_is_an_empty_one(sig: Any) -> None:
    assert [signed.signature for signed in read(frame(label(sig=sig))).signed] == [b""]


def test_labels_that_are_refused_leave_the_others_and_are_counted() -> None:
    result = read(frame(*(LABEL | {"val": val} for val in ("a", "b", "c")), "no label"))
    left = accounted(without_refused(result, ["", "bad_signature", "foreign_src"]))
    assert [each.val for each in labels_of(left)] == ["a"]
    assert left.dropped == {"bad_label": 1, "bad_signature": 1, "foreign_src": 1}


def test_a_frame_whose_labels_are_all_refused_moves_the_cursor() -> None:
    left = accounted(without_refused(read(frame(LABEL)), ["bad_signature"]))
    assert (left.seq, left.time, left.events) == (7, "", ())


def test_the_labels_of_a_real_labeler_are_signed_by_its_key(recording: Callable[[str], Recording]) -> None:
    full = recording("full")
    for result in map(read, full.labels):
        for said, signed in zip(labels_of(result), result.signed, strict=True):
            key = parse_document(said.src, full.dids[said.src]).label_key
            assert key
            assert verify(key, signed.message, signed.signature)
    assert len(full.labels) == 5


def test_labels_that_are_no_list_move_the_cursor() -> None:
    result = read(frame(labels=5))
    assert (result.seq, result.dropped) == (7, {"bad_frame": 1})


def test_labels_without_a_sequence_number_are_unreadable() -> None:
    assert refusal(read, frame(LABEL, seq=0)) == "bad_frame"
    assert refusal(read, encode({"op": 1, "t": "#labels"}) + encode({"labels": [LABEL]})) == "bad_frame"


def test_notices_and_unknown_types_bring_nothing() -> None:
    assert read(encode({"op": 1, "t": "#info"}) + encode({"name": "OutdatedCursor"})).name == "OutdatedCursor"
    assert read(encode({"op": 1, "t": "#tomorrow"}) + encode({"seq": 8})).seq == 8
