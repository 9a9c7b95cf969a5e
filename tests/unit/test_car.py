"""CAR v1: every block hashed, nothing half read."""

import json
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.car import MAX_BLOCK_BYTES, MAX_HEADER_BYTES, Car, read_car, split_car
from common.dag_cbor import RAW_CID, Link, cid_of, cid_text, decode, encode
from tests.recorded_frames import commits
from tests.refusals import refusal
from tests.signed_repos import car, record, varint

DATA = Path(__file__).parents[1] / "data"
REPOS = DATA / "vectors" / "repos"
BLOCKS = [record(text) for text in ("one", "two" * 99, "three" * 9999)]
ROOT = cid_of(BLOCKS[0])


def section(cid: bytes, block: bytes) -> bytes:
    return varint(len(cid + block)) + cid + block


def headed(header: object, *sections: bytes) -> bytes:
    block = header if isinstance(header, bytes) else encode(header)
    return varint(len(block)) + block + b"".join(sections)


def test_every_block_is_found_under_its_cid() -> None:
    found = read_car(car(ROOT, BLOCKS))
    assert found == Car(roots=(ROOT,), blocks={cid_of(block): block for block in BLOCKS})
    assert found.root == ROOT


def test_the_car_of_a_commit_holds_the_commit_and_the_records() -> None:
    for body in commits():
        found = read_car(body["blocks"])
        assert found.root == body["commit"]
        assert decode(found.blocks[found.root])["rev"] == body["rev"]
        assert {op["cid"] for op in body["ops"]} - {None} <= found.blocks.keys()
        assert all(cid_of(block) == cid for cid, block in found.blocks.items())


@pytest.mark.parametrize("name", ["empty", "tiny", "valid_repo", "snarfed2"])
def test_cars_of_other_software_are_read(name: str) -> None:
    found = read_car((REPOS / f"{name}.car").read_bytes())
    assert found.root in found.blocks


def test_the_blocks_of_a_car_are_those_of_the_fixture() -> None:
    (fixture,) = json.loads((REPOS / "car-file-fixtures.json").read_text())
    found = read_car(b64decode(fixture["car"] + "=="))
    assert cid_text(found.root) == fixture["root"]
    blocks = {block["cid"]: b64decode(block["bytes"] + "==") for block in fixture["blocks"]}
    assert {cid_text(cid): block for cid, block in found.blocks.items()} == blocks


def test_duplicates_strangers_raw_and_empty_blocks_and_more_roots_are_allowed() -> None:
    raw = RAW_CID + bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    data = headed(
        {"version": 1, "roots": [Link(ROOT), Link(raw)]},
        *(section(cid_of(block), block) for block in [*BLOCKS, *BLOCKS]),
        section(raw, b""),
    )
    found = read_car(data)
    assert found.roots == (ROOT, raw)
    assert found.blocks == {cid_of(block): block for block in BLOCKS} | {raw: b""}


def test_a_prefix_is_refused_or_ends_between_blocks() -> None:
    data = (REPOS / "tiny.car").read_bytes()
    whole = read_car(data).blocks
    complete = 0
    for end in range(len(data)):
        reason = refusal(read_car, data[:end])
        assert reason in (None, "truncated_car")
        if reason is None:
            assert read_car(data[:end]).blocks.items() < whole.items()
            complete += 1
    assert complete == len(whole)  # after the header, and after each block but the last


def test_a_block_that_is_not_what_its_cid_says_is_refused() -> None:
    assert refusal(read_car, car(ROOT, [BLOCKS[0], (cid_of(BLOCKS[1]), BLOCKS[2])])) == "bad_block_hash"


def test_two_blocks_for_one_cid_are_refused_even_unhashed() -> None:
    wrong = (ROOT, b"forged")
    for blocks in ([BLOCKS[0], wrong], [wrong, BLOCKS[0]]):
        assert refusal(split_car, car(ROOT, blocks)) == "bad_block_hash"


def test_any_changed_byte_of_a_block_is_noticed() -> None:
    data = car(ROOT, BLOCKS[:2])
    first = data.index(BLOCKS[0])
    for at in range(first, first + len(BLOCKS[0])):
        changed = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        assert refusal(read_car, changed) == "bad_block_hash"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        {"version": 2, "roots": [Link(ROOT)]},
        {"version": True, "roots": [Link(ROOT)]},
        {"version": 1},
        {"version": 1, "roots": []},
        {"version": 1, "roots": [1]},
        {"version": 1, "roots": [b"bytes"]},
        {"version": 1, "roots": Link(ROOT)},
        {"version": 1, "roots": [Link(ROOT)], "more": 1},
        [1],
        encode({"version": 1, "roots": [Link(ROOT)]}) + b"\x00",
        encode({"version": 1, "roots": [Link(ROOT)]}).replace(b"\x71\x12\x20", b"\x70\x12\x20"),
        {"version": 1, "roots": [Link(ROOT)] * (MAX_HEADER_BYTES // 41)},
    ],
)
def test_a_header_that_is_not_version_1_with_roots_is_refused(header: object) -> None:
    assert refusal(read_car, headed(header, section(ROOT, BLOCKS[0]))) == "bad_car"


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param(b"\x00", id="empty section"),
        pytest.param(b"\xa5\x00" + ROOT + b"a", id="length not in its shortest form"),
        pytest.param(b"\x80\x80\x80\x80\x01", id="length of more than four bytes"),
        pytest.param(b"\xff" * 20, id="length without end"),
        pytest.param(varint(35) + ROOT[:35], id="shorter than a CID"),
        pytest.param(section(b"\x01\x70\x12\x20" + ROOT[4:], BLOCKS[0]), id="codec"),
        pytest.param(section(b"\x01\x71\x13\x40" + bytes(64), BLOCKS[0]), id="hash"),
        pytest.param(section(b"\x01\x71\x00\x20" + bytes(32), bytes(32)), id="identity"),
        pytest.param(section(b"\x12\x20" + bytes(32), BLOCKS[0]), id="version 0"),
        pytest.param(section(ROOT, bytes(MAX_BLOCK_BYTES + 1)), id="too large"),
        pytest.param(varint(MAX_BLOCK_BYTES + 37) + ROOT, id="too large, and not there"),
    ],
)
def test_a_malformed_section_is_refused(sections: bytes) -> None:
    good = car(ROOT, BLOCKS[:1])
    assert refusal(read_car, good + sections) == "bad_car"
    assert refusal(read_car, good + sections + good[59:]) == "bad_car"


def test_a_block_of_the_largest_size_is_read() -> None:
    block = encode(bytes(MAX_BLOCK_BYTES - 5))
    assert len(block) == MAX_BLOCK_BYTES
    assert read_car(car(ROOT, [block])).blocks == {cid_of(block): block}


def test_cids_that_atproto_does_not_have_are_refused() -> None:
    assert refusal(read_car, (REPOS / "foreign-cids.car").read_bytes()) == "bad_car"


def test_the_limit_of_blocks_is_exact() -> None:
    data = car(ROOT, BLOCKS)
    assert len(read_car(data, max_blocks=3).blocks) == 3
    assert refusal(lambda: read_car(data, max_blocks=2)) == "bad_car"


@given(st.binary(max_size=300), st.integers(0, 200))
@settings(max_examples=50)
def test_garbage_raises_nothing_but_bad_input(garbage: bytes, keep: int) -> None:
    reasons = ("bad_car", "truncated_car", "bad_block_hash", None)
    assert refusal(read_car, garbage) in reasons
    assert refusal(read_car, car(ROOT, BLOCKS[:2])[:keep] + garbage) in reasons
