"""Records as JSON: exact both ways, so that `record.json` hashes back to `record.cid`."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.car import read_car
from common.dag_cbor import MAX_DEPTH, Link, cid_of, cid_text, encode
from common.dag_json import MAX_RECORD_BYTES, _exact_json, _plain_json, json_to_block, to_json
from common.repo import read_commit, walk
from tests.cbor_values import floats
from tests.recorded_frames import commits
from tests.refusals import refusal
from tests.vector_files import DATA_MODEL, MODEL, VECTORS

# The other invalid ones are for lexicons to refuse: types of `$type`, blobs, and floats, which unknown fields may hold.
INVALID = [case for case in json.loads((MODEL / "data-model-invalid.json").read_text()) if case["note"][:4] in
           ("top-", "byte", "link")]  # fmt: skip
CID = bytes.fromhex("01711220") + bytes(range(32))
RAW_CID = bytes.fromhex("01551220") + bytes(range(32))
SAFE = (1 << 53) - 1

lookalikes = st.sampled_from(
    [CID, RAW_CID, CID + b"\x00", CID[:-1], b"\x12\x20" + bytes(32), b"\x01\x71\x00\x00" + bytes(60)]
)
links = st.sampled_from([Link(CID), Link(RAW_CID)])
scalars = (
    st.none() | st.integers(-SAFE, SAFE) | floats | st.text(max_size=40) | st.binary(max_size=40) | lookalikes | links
)
keys = st.text(max_size=9).filter(lambda key: key not in ("$link", "$bytes"))
records = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=20,
    ),
    max_size=8,
)


@pytest.mark.parametrize("fixture", DATA_MODEL, ids=lambda fixture: fixture["cid"][-8:])
def test_the_fixtures_of_the_data_model_agree(fixture: dict[str, Any]) -> None:
    block = b64decode(fixture["cbor_base64"] + "==")
    assert json.loads(to_json(block)) == fixture["json"]
    assert json_to_block(json.dumps(fixture["json"]).encode()) == block


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case["note"])
def test_json_outside_the_data_model_is_refused(case: dict[str, Any]) -> None:
    assert refusal(json_to_block, json.dumps(case["json"]).encode()) == "bad_record"


def test_every_recorded_record_hashes_back_to_its_cid() -> None:
    seen = 0
    for body in commits():
        blocks = read_car(body["blocks"]).blocks
        for op in body["ops"]:
            if op["cid"]:
                assert cid_of(json_to_block(to_json(blocks[op["cid"]]))) == op["cid"]
                seen += 1
    assert seen == 36


@pytest.mark.parametrize("path", sorted((VECTORS / "records").glob("*.cbor")), ids=lambda path: path.stem)
def test_records_of_other_software_come_back_byte_for_byte(path: Path) -> None:
    assert json_to_block(to_json(path.read_bytes())) == path.read_bytes()


def test_the_records_of_a_repo_are_those_that_other_software_reads() -> None:
    car = read_car((VECTORS / "repos" / "snarfed2.car").read_bytes())
    data = read_commit(car.blocks[car.root]).data
    found = {path.decode(): json.loads(to_json(car.blocks[cid])) for path, cid in walk(car.blocks, data)}
    text = (VECTORS / "repos" / "snarfed2.json").read_text().replace('"/":', '"$link":')
    expected = json.loads(text).items()
    assert found == {f"{kind}/{key}": record for kind, records in expected for key, record in records.items()}


@given(records)
@settings(max_examples=50)
def test_any_record_comes_back_byte_for_byte(record: dict[str, Any]) -> None:
    block = encode(record)
    assert json_to_block(to_json(block)) == block


@given(records, st.data())
@settings(max_examples=200)
def test_the_short_way_to_json_gives_nothing_but_what_the_exact_one_gives(
    record: dict[str, Any], data: st.DataObject
) -> None:
    """A byte changed at will: what is not canonical, or is no record any more, is refused either way."""
    block = bytearray(encode(record))
    block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    short = _plain_json(bytes(block))
    if short is not None:
        assert refusal(_exact_json, bytes(block)) is None
        assert short == _exact_json(bytes(block))


def test_most_records_go_the_short_way() -> None:
    assert _plain_json(encode({"text": "ol\u00e9", "createdAt": "2026", "n": [1, {"a": None}]})) is not None


# how the short way could be led astray: no record, too deep, not canonical, numbers and bytes that JSON has not; or
# so long that containers which claim to be as long, one in another, take a fifth of a second
ASTRAY = [
    encode([1]),
    encode({"a": 1 << 60}),
    encode({"a": b"x"}),
    encode({"$link": "a"}),
    b"\xa1aa" * (MAX_DEPTH + 1) + b"\x00",
    b"\xa1aa" + b"\x81" * MAX_DEPTH + b"\x00",
    encode({"a": "long" * 1024}),
    bytes.fromhex("a1616118 01".replace(" ", "")),
    bytes.fromhex("a161 62 00 61 61 00".replace(" ", "")),
    bytes.fromhex("a16161fa3fc00000"),
    b"\xa1aa\x9a\x00\xff\xff\xff" + b"\x00" * 64,
]


@pytest.mark.parametrize("block", ASTRAY, ids=lambda block: block[:40].hex())
def test_what_is_not_plain_is_left_to_the_exact_way(block: bytes) -> None:
    assert _plain_json(block) is None


def test_what_the_block_says_decides_what_is_a_link() -> None:
    block = encode({"a": [CID, Link(CID), CID], "b": {"c": Link(RAW_CID), "d": b"x"}})
    link, raw, plain = cid_text(CID), cid_text(RAW_CID), "AXESIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    assert json.loads(to_json(block)) == {
        "a": [{"$bytes": plain}, {"$link": link}, {"$bytes": plain}],
        "b": {"c": {"$link": raw}, "d": {"$bytes": "eA"}},
    }


def test_the_text_has_no_spaces_no_padding_and_the_order_of_the_block() -> None:
    block = encode({"b": 1, "a": [True, None], "cc": "é\n\x00", "bytes": b"\xfb", "z": 1.5})
    assert to_json(block) == '{"a":[true,null],"b":1,"z":1.5,"cc":"é\\n\\u0000","bytes":{"$bytes":"+w"}}'.encode()


@pytest.mark.parametrize("number", [SAFE, -SAFE])
def test_integers_of_53_bits_pass(number: int) -> None:
    assert to_json(encode({"n": number})) == b'{"n":%d}' % number


@pytest.mark.parametrize("number", [SAFE + 1, -SAFE - 1, 2**63, 2**64 - 1, -(2**64)])
def test_integers_beyond_53_bits_are_refused(number: int) -> None:
    assert refusal(to_json, encode({"a": [number]})) == "bad_record"
    assert refusal(json_to_block, b'{"a":[%d]}' % max(-(2**63), min(number, 2**64 - 1))) == "bad_record"


@pytest.mark.parametrize("value", [None, [], [{}], "text", 1, b"bytes", Link(CID)])
def test_what_is_not_a_map_is_no_record(value: Any) -> None:
    assert refusal(to_json, encode(value)) == "bad_record"


@pytest.mark.parametrize("key", ["$link", "$bytes"])
def test_a_map_that_json_would_take_for_a_link_or_bytes_is_refused(key: str) -> None:
    assert refusal(to_json, encode({key: "AA"})) == "bad_record"
    assert refusal(to_json, encode({"a": [{"b": {key: cid_text(CID)}}]})) == "bad_record"


def test_a_text_may_speak_of_links_and_bytes() -> None:
    block = encode({"a": "$link and $bytes", "$links": ["$bytes"]})
    assert json_to_block(to_json(block)) == block


def test_the_size_limit_is_exact() -> None:
    block = encode({"a": "x" * (MAX_RECORD_BYTES - 8)})
    assert len(block) == MAX_RECORD_BYTES
    assert refusal(to_json, block) is None
    assert refusal(to_json, encode({"a": "x" * (MAX_RECORD_BYTES - 7)})) == "bad_record"


@pytest.mark.parametrize("block", [b"", b"\xa1", b"\xbf\xff", encode({"a": 1}) + b"\x00"])
def test_what_is_not_dag_cbor_is_refused_as_that(block: bytes) -> None:
    assert refusal(to_json, block) == "bad_cbor"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a":NaN}',
        b'{"$link":"%s"}' % cid_text(CID).encode(),
        b'{"a":{"$bytes":"!"}}',
        b'{"a":{"$bytes":"A"}}',
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b"[" * 100_000,
    ],
)
def test_json_that_is_no_record_is_refused(text: bytes) -> None:
    assert refusal(json_to_block, text) == "bad_record"


def test_json_may_be_as_deep_as_a_block_may() -> None:
    assert refusal(json_to_block, b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH) is None
    assert refusal(json_to_block, b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1)) == "bad_record"


@pytest.mark.parametrize("text", ["+w", "+w=="])
def test_padding_of_bytes_is_optional(text: str) -> None:
    assert json_to_block(orjson.dumps({"a": {"$bytes": text}})) == encode({"a": b"\xfb"})
