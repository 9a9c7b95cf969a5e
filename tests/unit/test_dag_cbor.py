"""DAG-CBOR: what is accepted, what is refused, and that refusing is cheap."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.dag_cbor import (
    MAX_DEPTH,
    Link,
    check,
    decode,
    decode_header_and_body,
    encode,
)
from common.errors import BadInput
from tests.recorded_frames import BASIC
from tests.refusals import refusal
from tests.vector_files import DATA_MODEL, VECTORS, content_of

DASL = [case for path in sorted((VECTORS / "dasl").glob("*.json")) for case in json.loads(path.read_text())]
CODEC = VECTORS / "ipld-codec"
OURS = {"basic", "dag-cbor", "dasl-cid"}
NOT_OURS = {"Big DASL CID"}  # blake3, which atproto does not have
RFC_8949 = json.loads(content_of(VECTORS / "rfc8949" / "appendix.json.zst"))
CID = bytes.fromhex("01711220") + bytes(range(32))


def cases(kind: str) -> list[Any]:
    chosen = [c for c in DASL if c["type"] == kind and OURS & set(c["tags"]) and c["name"] not in NOT_OURS]
    return [pytest.param(bytes.fromhex(c["data"]), id=c["name"]) for c in chosen]


def test_of_all_of_cbor_only_the_part_that_is_dag_cbor_is_accepted() -> None:
    accepted = [case for case in RFC_8949 if refusal(decode, bytes.fromhex(case["hex"])) is None]
    assert len(accepted) == 40
    assert all({"valid", "canonical"} <= set(case["flags"]) for case in accepted)
    refused = [case["hex"] for case in RFC_8949 if "canonical" in case["flags"] and case not in accepted]
    others = "c", "d", "f7", "f0", "f8", "f9", "fa"  # tags, simple values and short floats
    assert [text for text in refused if not text.startswith(others)] == ["a201020304"]  # keys that are no texts


@pytest.mark.parametrize("block", cases("roundtrip"))
def test_what_dag_cbor_allows_is_accepted(block: bytes) -> None:
    assert refusal(decode, block) is None


@pytest.mark.parametrize("block", cases("invalid_in"))
def test_what_dag_cbor_forbids_is_refused(block: bytes) -> None:
    assert refusal(decode, block) == "bad_cbor"


@pytest.mark.parametrize("path", sorted(CODEC.glob("*.dag-cbor")), ids=lambda path: path.stem)
def test_a_fixture_is_encoded_again_to_the_same_bytes(path: Path) -> None:
    block = path.read_bytes()
    value = decode(block)
    if not check(block):  # a link decodes to bytes, which would be encoded as such
        assert encode(value) == block


@pytest.mark.parametrize("path", sorted((CODEC / "refused").iterdir()), ids=lambda path: path.stem)
def test_foreign_cids_short_floats_and_deep_nesting_are_refused(path: Path) -> None:
    assert refusal(decode, path.read_bytes()) == "bad_cbor"


def test_duplicate_keys_are_refused() -> None:
    for case in json.loads((CODEC / "duplicate-keys.json").read_text()):
        assert refusal(decode, bytes.fromhex(case["hex"])) == "bad_cbor"


@pytest.mark.parametrize("head", [0x00, 0x20, 0x40, 0x60, 0x80, 0xA0])
@pytest.mark.parametrize(("info", "least"), [(24, 24), (25, 1 << 8), (26, 1 << 16), (27, 1 << 32)])
def test_a_number_or_length_one_below_its_form_is_refused(head: int, info: int, least: int) -> None:
    details = []
    for argument in (least - 1, least):
        try:
            check(bytes((head | info,)) + argument.to_bytes(1 << info - 24, "big"))
        except BadInput as error:
            details.append(error.detail)
    assert details.count("not the shortest form") == 1


@pytest.mark.parametrize("info", [28, 29, 30, 31])
@pytest.mark.parametrize("head", range(0, 256, 32))
def test_reserved_and_indefinite_forms_are_refused(head: int, info: int) -> None:
    assert refusal(decode, bytes((head | info,)) + bytes(16) + b"\xff") == "bad_cbor"


def test_every_prefix_of_a_block_and_whatever_follows_it_is_refused() -> None:
    for fixture in DATA_MODEL:
        block = b64decode(fixture["cbor_base64"] + "==")
        assert refusal(check, block) is None
        assert {refusal(check, block[:end]) for end in range(len(block))} == {"bad_cbor"}
        assert refusal(check, block + b"\x00") == "bad_cbor"


@pytest.mark.parametrize("length", [0, 1, 23, 24, 255, 256, 65535, 65536])
def test_containers_of_any_length_are_measured(length: int) -> None:
    values = [[None] * length, dict.fromkeys(map(str, range(length))), "x" * length, bytes(length)]
    for value in values:
        assert decode(encode(value)) == value


def test_a_short_float_is_no_container() -> None:
    assert refusal(check, b"\xf9\x01\x00" + bytes(512)) == "bad_cbor"


def test_a_link_is_told_from_bytes_that_look_like_one() -> None:
    block = encode({"a": Link(CID), "b": CID, "c": b"short", "d": bytes(24)})
    assert check(block) == [True, False, False]
    assert decode(block) == {"a": CID, "b": CID, "c": b"short", "d": bytes(24)}


def nested(levels: int, head: bytes = b"\x81", core: bytes = b"\xf6") -> bytes:
    return head * levels + core


@pytest.mark.parametrize("head", [b"\x81", b"\xa1\x61a"])
def test_the_depth_limit_is_exact(head: bytes) -> None:
    assert refusal(decode, nested(MAX_DEPTH, head)) is None
    assert refusal(decode, nested(MAX_DEPTH + 1, head)) == "bad_cbor"


def test_the_item_limit_is_exact_and_counts_all_containers() -> None:
    check(encode([[1, 2], {"a": 3}]), max_items=6)
    with pytest.raises(BadInput):
        check(encode([[1, 2], {"a": 3}]), max_items=5)


def claims(major: int, count: int, width: int = 8) -> bytes:
    return bytes((major << 5 | 24 + width.bit_length() - 1,)) + count.to_bytes(width, "big")


class Counted(bytes):
    """It knows how often somebody has looked into it."""

    looks = 0

    def __getitem__(self, where: Any) -> Any:
        self.looks += 1
        return super().__getitem__(where)


MEGA = 1_000_000


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(nested(MEGA), id="deep"),
        pytest.param(b"".join(claims(4, MEGA - 5 * i, 4) for i in range(900)) + bytes(MEGA), id="claims"),
        pytest.param(claims(4, MEGA, 4) + b"\x80" * MEGA, id="many"),
        pytest.param(claims(4, 2**64 - 1), id="array"),
        pytest.param(claims(5, 2**64 - 1), id="map"),
        pytest.param(claims(3, 2**64 - 1), id="text"),
        pytest.param(claims(2, 2**63 - 1), id="bytes"),
    ],
)
def test_a_bomb_is_refused_before_it_costs_anything(bomb: bytes) -> None:
    counted = Counted(bomb)
    assert refusal(decode, counted) == "bad_cbor"
    assert counted.looks < 10_000


@given(st.binary(max_size=200))
@example(b"\xd8\x2a\x58\x25\x00\x01\x71\x12\x20")
def test_garbage_is_refused_or_was_canonical(block: bytes) -> None:
    reason = refusal(decode, block)
    assert reason == "bad_cbor" or any(check(block)) or encode(decode(block)) == block


@given(st.integers(0, len(BASIC) - 1), st.data())
@settings(max_examples=50)
def test_a_damaged_frame_raises_nothing_but_bad_input(which: int, data: st.DataObject) -> None:
    frame = bytearray(BASIC[which])
    for at in data.draw(st.lists(st.integers(0, len(frame) - 1), min_size=1, max_size=4)):
        frame[at] = data.draw(st.integers(0, 255))
    assert refusal(decode_header_and_body, bytes(frame)) in (None, "bad_cbor")
