"""Trees of repos, real and made here, are walked to exactly their records; one that lacks a block is not."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.dag_cbor import cid_of, decode
from common.dag_json import json_to_block, to_json
from common.errors import TryLater
from common.repo import depth_of, read_commit, read_node, walk
from tests.signed_repos import Blocks, record, tree
from tests.vector_files import CARS, DATA, VECTORS, car_of

MST = VECTORS / "atproto-interop" / "mst"
RECORD = record("a record")
CID = cid_of(RECORD)


def walked(blocks: Blocks, top: bytes) -> list[tuple[str, bytes]]:
    return [(key.decode(), cid) for key, cid in walk(blocks, top)]


@pytest.mark.parametrize(("name", "count"), [("little", 278), ("paul_staging", 185), ("fakermaker", 142)])
def test_large_repos_are_walked_and_every_record_comes_back_from_its_json(name: str, count: int) -> None:
    """Two of them from before version 3, whose trees were the same."""
    found = car_of(VECTORS / "repos" / f"{name}.car.zst")
    records = walked(found.blocks, decode(found.blocks[found.root])["data"])
    assert len(records) == count
    for _, cid in records:
        assert json_to_block(to_json(found.blocks[cid])) == found.blocks[cid]


def test_the_heights_of_keys_are_those_of_the_vectors() -> None:
    for case in json.loads((MST / "key_heights.json").read_text()):
        assert depth_of(case["key"].encode()) == case["height"]


@pytest.mark.parametrize("path", CARS, ids=lambda path: path.stem)
def test_a_real_tree_is_walked_in_order_and_is_the_tree_of_its_records(path: Path) -> None:
    found = car_of(path)
    data = read_commit(found.blocks[found.root]).data
    records = walked(found.blocks, data)
    assert all(a < b for (a, _), (b, _) in pairwise(records))
    top, nodes = tree(dict(records))
    assert nodes.items() <= found.blocks.items()
    assert top == data or not read_node(found.blocks[data]).entries  # the one with a top without keys


@pytest.mark.parametrize("path", sorted((VECTORS / "mst-suite").glob("*.car")), ids=lambda path: path.stem)
def test_the_trees_of_the_suite_are_walked(path: Path) -> None:
    found = car_of(path)
    records = {record for block in found.blocks.values() for _, record, _ in read_node(block).entries}
    listed = walked(found.blocks | dict.fromkeys(records, b""), found.root)
    assert len(listed) == sum(len(read_node(block).entries) for block in found.blocks.values())
    assert tree(dict(listed)) == (found.root, found.blocks)


def paths() -> st.SearchStrategy[str]:
    return st.from_regex(r"[a-c.]{1,4}/[a-zA-Z0-9_~:.-]{1,3}", fullmatch=True)


@given(st.sets(paths(), max_size=40))
@settings(max_examples=50)
def test_any_tree_is_walked_to_exactly_its_records(chosen: set[str]) -> None:
    records = {path: cid_of(path.encode()) for path in chosen}
    top, nodes = tree(records)
    assert walked(nodes | {cid: b"" for cid in records.values()}, top) == sorted(records.items())


def test_a_tree_of_example_keys_holds_them_all() -> None:
    keys = (MST / "example_keys.txt").read_text().split()
    records = {key: CID for key in keys}
    top, nodes = tree(records)
    assert len(nodes) > 30
    assert [path for path, _ in walked(nodes | {CID: RECORD}, top)] == sorted(keys)


def test_every_missing_node_and_record_is_noticed() -> None:
    found = car_of(CARS[1])
    data = read_commit(found.blocks[found.root]).data
    for missing in found.blocks.keys() - {found.root}:
        rest = {cid: block for cid, block in found.blocks.items() if cid != missing}
        with pytest.raises(TryLater, match="incomplete_repo"):
            walked(rest, data)


def test_a_record_that_is_no_dag_cbor_is_still_part_of_the_tree() -> None:
    path, raw = "app.bsky.feed.post/3mfxgt2k70000", b"\x01\x55" + CID[2:]
    top, nodes = tree({path: raw})
    assert walked(nodes | {raw: b"anything"}, top) == [(path, raw)]


def test_a_top_without_keys_is_taken_as_real_software_signs_it() -> None:
    found = car_of(DATA / "cars" / "did_plc_cugacuj46dltsxlnm72craib.car")
    data = read_commit(found.blocks[found.root]).data
    assert not read_node(found.blocks[data]).entries
    assert len(walked(found.blocks, data)) == 4
