"""What is encoded decodes to the same, a message is two maps, and a CID has one text."""

import math
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given, settings

from common.dag_cbor import (
    MAX_DEPTH,
    cid_from_text,
    cid_of,
    cid_text,
    decode,
    decode_header_and_body,
    encode,
    is_cid,
)
from common.errors import BadInput
from tests.cbor_values import values
from tests.recorded_frames import BASIC
from tests.refusals import refusal
from tests.vector_files import DATA_MODEL

CID = bytes.fromhex("01711220") + bytes(range(32))


@given(values)
@settings(max_examples=50)
def test_what_is_encoded_decodes_to_the_same(value: Any) -> None:
    block = encode(value)
    assert decode(block) == value
    assert encode(decode(block)) == block


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.0, 1 << 64, -(1 << 64) - 1, "\ud800"])
def test_what_has_no_encoding_is_refused(value: Any) -> None:
    with pytest.raises(BadInput, match="bad_cbor"):
        encode([value])


def test_what_is_encoded_is_no_deeper_than_what_is_decoded() -> None:
    nested = b"\x81" * MAX_DEPTH + b"\xf6"
    deepest = decode(nested)
    assert encode(deepest) == nested
    assert refusal(encode, [deepest]) == "bad_cbor"
    assert refusal(encode, {"a": deepest}) == "bad_cbor"


def test_keys_are_sorted_by_length_and_then_by_bytes() -> None:
    assert encode({"bb": 1, "é": 2, "a": 3, "aaa": 4}) == bytes.fromhex("a4616103 62626201 62c3a902 6361616104")


def test_every_recorded_frame_is_a_header_and_a_body() -> None:
    headers = [decode_header_and_body(frame) for frame in BASIC]
    assert {header["t"] for header, _ in headers} == {"#identity", "#account", "#sync", "#commit"}
    assert [body["seq"] for _, body in headers] == list(range(1, 61))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        encode({"op": 1}),
        encode({"op": 1}) + encode({}) + encode({}),
        encode({"op": 1}) + encode({}) + b"\xff",
        encode({"op": 1}) + encode({}) + b"\x81" * 100_000,
        b"\xa1\x61a\x78\xff",
        encode([1]) + encode({}),
        encode({"op": 1}) + encode([1]),
        encode({"op": 1}) + encode({"a": 1})[:-1],
    ],
)
def test_a_frame_that_is_not_two_maps_is_refused(frame: bytes) -> None:
    with pytest.raises(BadInput, match="bad_cbor"):
        decode_header_and_body(frame)


@pytest.mark.parametrize("fixture", DATA_MODEL, ids=lambda fixture: fixture["cid"][-8:])
def test_the_cid_of_a_block_is_that_of_the_fixture(fixture: dict[str, Any]) -> None:
    cid = cid_of(b64decode(fixture["cbor_base64"] + "=="))
    assert cid_text(cid) == fixture["cid"]
    assert cid_from_text(fixture["cid"]) == cid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bafyrei",
        "QmQg1v4o9xdT3Q14wh4S7dxZkDjyZ9ssFzFzyep1YrVJBY",
        "zdpuAtX7ZibcWdSKQwiDCkPjWwRvtcKCPku9H7LhgA4qJW4Wk",
        "BAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ",
        "bAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ",
        "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabw!",
        "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwé",
        "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwr",
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "bagcqcera73rupyla6bauseyk75rslfys3st25spm75ykhvgusqvv2zfqtucq",
    ],
)
def test_a_text_that_is_not_our_kind_of_cid_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="bad_cid"):
        cid_from_text(text)


@pytest.mark.parametrize("raw", [b"", CID[:-1], CID + b"\x00", b"\x00" + CID[1:], b"\x01\x70" + CID[2:], "text", None])
def test_only_cids_have_the_text_of_a_cid(raw: Any) -> None:
    assert not is_cid(raw)
    with pytest.raises(BadInput, match="bad_cid"):
        cid_text(raw)
