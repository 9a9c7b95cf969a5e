"""Commits and trees: what is proven, what is missing, what is wrong."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.car import Car, read_car
from common.dag_cbor import Link, cid_of, decode, encode
from common.dag_json import json_to_block, to_json
from common.errors import TryLater
from common.keys import key_in_document
from common.repo import depth_of, read_commit, read_node, verify_commit, walk
from tests.recorded_frames import commits
from tests.refusals import refusal
from tests.signed_repos import DID, REV, Blocks, Signer, commit, depth, node, record, tree
from tests.vector_files import VECTORS, content_of

DATA = Path(__file__).parents[1] / "data"
MST = VECTORS / "atproto-interop" / "mst"
REPOS = ("empty.car", "tiny.car", "snarfed2.car", "greenground.car", "little.car.zst")
CARS = sorted((DATA / "cars").glob("*.car")) + [VECTORS / "repos" / name for name in REPOS]
DOCUMENTS = json.loads((DATA / "cars" / "dids.json").read_text())

SIGNER = Signer()
RECORD = record("a record")
CID = cid_of(RECORD)
DATA_CID = cid_of(b"\xa0")
PATHS = [f"app.bsky.feed.post/3mfxgt2k7{i:04d}" for i in range(60)]
_low, _high = ([path.encode() for path in PATHS if depth(path.encode()) == height] for height in (0, 1))
LOW, LOW_TOO = _low[:2]
HIGH = next(key for key in _high if key > LOW_TOO)
LATER = next(key for key in _low if key > HIGH)
HIGH_TOO = next(key for key in _high if key > LATER)


def walked(blocks: Blocks, top: bytes) -> list[tuple[str, bytes]]:
    return [(key.decode(), cid) for key, cid in walk(blocks, top)]


def car_of(path: Path) -> Car:
    return read_car(content_of(path))


# commits


@pytest.mark.parametrize("path", CARS, ids=lambda path: path.stem)
def test_the_commits_of_real_repos_are_read(path: Path) -> None:
    found = car_of(path)
    read = read_commit(found.blocks[found.root])
    assert read.data in found.blocks
    assert read.did.startswith("did:plc:")


def test_every_recorded_commit_is_signed_by_the_key_in_the_document() -> None:
    assert len(commits()) == 40
    for body in commits():
        read = read_commit(read_car(body["blocks"]).blocks[body["commit"]])
        assert (read.did, read.rev) == (body["repo"], body["rev"])
        verify_commit(read, key_in_document(DOCUMENTS[read.did], read.did))


def test_a_commit_gives_its_fields_and_the_bytes_that_were_signed() -> None:
    read = read_commit(commit(DATA_CID, SIGNER, prev=Link(CID)))
    fields = {"did": DID, "rev": REV, "data": Link(DATA_CID), "prev": Link(CID), "version": 3}
    assert (read.did, read.rev, read.data, read.prev) == (DID, REV, DATA_CID, CID)
    assert read.unsigned == encode(fields)
    verify_commit(read, SIGNER.public)


def test_unknown_fields_are_part_of_what_is_signed() -> None:
    read = read_commit(commit(DATA_CID, SIGNER, a=CID, zzz={"links": [Link(CID)]}))
    verify_commit(read, SIGNER.public)


@pytest.mark.parametrize("prev", [None, Link(CID)])
def test_the_usual_form_of_a_commit_is_read_as_any_other(prev: Link | None) -> None:
    usual = read_commit(commit(DATA_CID, SIGNER, prev=prev))
    other = read_commit(commit(DATA_CID, SIGNER, prev=prev, did="did:web:" + DID.removeprefix("did:plc:")))
    assert (usual.rev, usual.data, usual.prev) == (other.rev, other.data, other.prev)
    assert usual.unsigned == other.unsigned.replace(b"did:web:", b"did:plc:")
    verify_commit(usual, SIGNER.public)


def test_a_signature_that_looks_like_a_cid_changes_nothing() -> None:
    """Written back by a codec that cannot tell, it would become a link; one signature of a thousand begins like one."""
    lookalike = b"\x01\x71\x12\x20" + bytes(range(60))
    fields = {"did": DID, "rev": REV, "data": Link(DATA_CID), "prev": None, "version": 3}
    read = read_commit(encode(fields | {"sig": lookalike}))
    assert read.sig == lookalike
    assert read.unsigned == encode(fields)


def test_the_signature_of_another_key_is_refused() -> None:
    assert refusal(verify_commit, read_commit(commit(DATA_CID, SIGNER)), Signer(number=8).public) == "bad_signature"


def test_a_commit_changed_after_it_was_signed_is_refused() -> None:
    block = commit(DATA_CID, SIGNER)
    assert REV.encode() in block
    changed = read_commit(block.replace(REV.encode(), REV[:-1].encode() + b"n"))
    assert refusal(verify_commit, changed, SIGNER.public) == "bad_signature"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": 3.0},
        {"version": True},
        {"did": "alice.test"},
        {"did": None},
        {"rev": "1"},
        {"rev": 1},
        {"data": None},
        {"data": DATA_CID},
        {"data": Link(b"\x01\x55" + DATA_CID[2:])},
        {"data": "bafyreigbw4cq7jykvoa3gh4v5r7dwi4o6cz3lnzabqzwifd72webvwqow4"},
        {"prev": "text"},
        {"prev": b"bytes"},
        {"zzz": "csigX\x40"},
        {f"extra{i}": i for i in range(20)},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_commit_with_a_wrong_field_is_refused(changes: dict[str, Any]) -> None:
    assert refusal(read_commit, commit(DATA_CID, SIGNER, **changes)) == "bad_commit"


@pytest.mark.parametrize("missing", ["did", "rev", "data", "prev", "version", "sig"])
def test_a_commit_without_a_field_is_refused(missing: str) -> None:
    fields = {"did": DID, "rev": REV, "data": Link(DATA_CID), "prev": None, "version": 3, "sig": bytes(64)}
    assert refusal(read_commit, encode(fields)) is None
    del fields[missing]
    assert refusal(read_commit, encode(fields)) == "bad_commit"


SIGNATURES = {
    "none": b"",
    "too short": bytes(63),
    "too long": bytes(65),
    "DER": SIGNER.sign_der(b"x"),
    "a text": "x" * 64,
    "null": None,
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_only_64_bytes_are_the_signature_of_a_commit(name: str) -> None:
    fields = {"did": DID, "rev": REV, "data": Link(DATA_CID), "prev": None, "version": 3}
    assert refusal(read_commit, encode(fields | {"sig": SIGNATURES[name]})) == "bad_commit"


@pytest.mark.parametrize(
    "block",
    [b"", b"\xf6", encode([]), commit(DATA_CID, SIGNER) + b"\x00", RECORD],
    ids=["nothing", "null", "a list", "a byte too many", "a record"],
)
def test_what_is_no_commit_is_refused(block: bytes) -> None:
    assert refusal(read_commit, block) == "bad_commit"


@pytest.mark.parametrize(
    "name",
    ["version-2.car", "version-2-slice.car", "version-2-divy.car", "paul_staging.car.zst", "fakermaker.car.zst"],
)
def test_a_commit_of_version_2_is_refused(name: str) -> None:
    found = car_of(VECTORS / "repos" / name)
    assert decode(found.blocks[found.root])["version"] == 2
    assert refusal(read_commit, found.blocks[found.root]) == "bad_commit"


def test_a_real_commit_is_signed_with_the_key_of_an_old_did_document() -> None:
    """Of another DID than the repo, with the same key."""
    found = car_of(VECTORS / "repos" / "greenground.car")
    document = json.loads((VECTORS / "identity" / "greenground.didDoc.json").read_text())
    commit, key = read_commit(found.blocks[found.root]), key_in_document(document, document["id"])
    verify_commit(commit, key)
    assert refusal(verify_commit, commit, Signer().public) == "bad_signature"


# right trees


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
    assert [path.decode() for path, _ in walk(nodes | {CID: RECORD}, top)] == sorted(keys)


# missing blocks


def test_every_missing_node_and_record_is_noticed() -> None:
    found = car_of(CARS[1])
    data = read_commit(found.blocks[found.root]).data
    for missing in found.blocks.keys() - {found.root}:
        rest = {cid: block for cid, block in found.blocks.items() if cid != missing}
        with pytest.raises(TryLater, match="incomplete_repo"):
            walked(rest, data)


# wrong trees: each is one change away from a right one


class Heap(Blocks):
    """Blocks that nodes can be thrown on, for trees that `tree` would never build."""

    def node(self, *entries: tuple[int, bytes, bytes | None, bytes], left: bytes | None = None) -> bytes:
        block = node(left, entries)
        self[cid_of(block)] = block
        return cid_of(block)

    def chain(self, length: int, bottom: bytes | None) -> bytes:
        """Nodes without keys, one above the other."""
        top = self.node(left=bottom)
        return top if length == 1 else self.chain(length - 1, top)


def shared(a: bytes, b: bytes) -> int:
    return next(i for i in range(len(a)) if a[i] != b[i])


def entry(
    key: bytes, right: bytes | None = None, after: bytes = b"", beyond: int = 0
) -> tuple[int, bytes, bytes | None, bytes]:
    """`beyond` is how many bytes too many, or too few, are said to be shared with the key before."""
    n = (shared(after, key) if after else 0) + beyond
    return (n, key[n:], right, CID)


WRONG_TREES: dict[str, Callable[[Heap], bytes]] = {
    "descending": lambda heap: heap.node(entry(LOW_TOO), entry(LOW, after=LOW_TOO)),
    "twice": lambda heap: heap.node(entry(LOW), (len(LOW), b"", None, CID)),
    "shares less than it could": lambda heap: heap.node(entry(LOW), entry(LOW_TOO, after=LOW, beyond=-1)),
    "shares more than there is": lambda heap: heap.node(entry(LOW), (len(LOW) + 1, b"x", None, CID)),
    "the first shares": lambda heap: heap.node(entry(LOW, beyond=1)),
    "empty key": lambda heap: heap.node(entry(b"")),
    "no slash": lambda heap: heap.node(entry(b"a" * 20)),
    "two slashes": lambda heap: heap.node(entry(b"a/b/d")),
    "no rkey": lambda heap: heap.node(entry(b"a/")),
    "not ASCII": lambda heap: heap.node(entry("a/é".encode())),
    "key too long": lambda heap: heap.node(entry(b"a/" + b"b" * 1023)),
    "key too low": lambda heap: heap.node(entry(HIGH), entry(LATER, after=HIGH), left=heap.node(entry(LOW))),
    "key too high": lambda heap: heap.node(entry(HIGH, right=heap.node(entry(HIGH_TOO)))),
    "empty subtree": lambda heap: heap.node(entry(HIGH), left=heap.node()),
    "subtree below the lowest": lambda heap: heap.node(entry(LOW, right=heap.node(entry(LATER)))),
    "subtree out of order": lambda heap: heap.node(entry(HIGH, right=heap.node(entry(LOW)))),
    "subtree twice": lambda heap: heap.node(entry(HIGH, heap.node(entry(LOW))), left=heap.node(entry(LOW))),
    "a level too many": lambda heap: heap.node(entry(HIGH), left=heap.chain(1, heap.node(entry(LOW)))),
    "no keys at all": lambda heap: heap.chain(2, heap.node()),
    "nothing but nodes": lambda heap: heap.chain(300, None),
}


@pytest.mark.parametrize("name", WRONG_TREES)
def test_a_wrong_tree_is_refused(name: str) -> None:
    heap = Heap({CID: RECORD})
    top = WRONG_TREES[name](heap)
    assert refusal(walked, heap, top) == "bad_mst"


class Counting(Heap):
    looked_up = 0

    def get(self, cid: bytes, default: Any = None) -> Any:
        self.looked_up += 1
        return super().get(cid, default)


@pytest.mark.parametrize("top_of", [lambda heap, tower: tower, lambda heap, tower: heap.node(entry(HIGH), left=tower)])
def test_a_tower_of_nodes_without_keys_is_not_walked_to_its_foot(top_of: Callable[[Heap, bytes], bytes]) -> None:
    heap = Counting({CID: RECORD})
    foot = heap.node(entry(LOW))
    for _ in range(10_000):
        foot = heap.node(left=foot)
    assert refusal(walked, heap, top_of(heap, foot)) == "bad_mst"
    assert heap.looked_up <= 130


def test_the_wrong_trees_are_one_change_away_from_a_right_one() -> None:
    heap = Heap({CID: RECORD})
    left = heap.node(entry(LOW), entry(LOW_TOO, after=LOW))
    top = heap.node(entry(HIGH, right=heap.node(entry(LATER))), entry(HIGH_TOO, after=HIGH), left=left)
    assert [path.encode() for path, _ in walked(heap, top)] == [LOW, LOW_TOO, HIGH, LATER, HIGH_TOO]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        RECORD,
        encode({"e": []}),
        encode({"e": [], "l": None, "x": 1}),
        encode({"e": {}, "l": None}),
        encode({"e": [], "l": CID}),
        encode({"e": [], "l": Link(b"\x01\x55" + CID[2:])}),
        encode({"e": [{}], "l": None}),
        encode({"e": [{"k": LOW, "p": 0, "v": Link(CID)}], "l": None}),
        encode({"e": [{"k": LOW, "p": 0, "t": None, "v": CID}], "l": None}),
        encode({"e": [{"k": LOW, "p": 0, "t": CID, "v": Link(CID)}], "l": None}),
        encode({"e": [{"k": LOW, "p": 0, "t": None, "v": None}], "l": None}),
        encode({"e": [{"k": LOW.decode(), "p": 0, "t": None, "v": Link(CID)}], "l": None}),
        encode({"e": [{"k": LOW, "p": -1, "t": None, "v": Link(CID)}], "l": None}),
        encode({"e": [{"k": LOW, "p": 0, "t": None, "v": Link(CID), "x": 1}], "l": None}),
        node(None, [entry(LOW_TOO), entry(LOW, after=LOW_TOO)]),
        node(None, [(0, LOW, None, CID)]) + b"\x00",
        node(None, [(0, LOW, None, CID)])[:-1],
        node(None, [(0, LOW, None, CID)]).replace(b"\x61\x65\x81", b"\x61\x65\x98\x01"),
        node(None, [(0, LOW, None, CID)]).replace(b"\x61\x65\x81", b"\x61\x65\x82"),
        node(None, [(0, LOW, None, CID)]).replace(b"\x61\x70\x00", b"\x61\x70\x18\x00"),
        node(None, [(0, LOW, None, CID)]).replace(b"\x61\x6b\x58\x20", b"\x61\x6b\x58\x21"),
        node(None, [(0, LOW, None, CID)]).replace(b"\xa4\x61\x6b", b"\x00\xa4\x61\x6b"),
    ],
)
def test_only_the_canonical_form_of_a_node_is_read(block: bytes) -> None:
    assert refusal(read_node, block) == "bad_mst"


def test_long_and_many_keys_are_read() -> None:
    keys = [b"a/" + b"b" * 300 + b"%04d" % i for i in range(300)]
    entries = [(0 if i == 0 else shared(keys[i - 1], key), key) for i, key in enumerate(keys)]
    read = read_node(node(CID, [(p, key[p:], CID if p else None, CID) for p, key in entries]))
    assert [key for key, *_ in read.entries] == keys
    assert read.left == CID
    assert [right for _, _, right in read.entries] == [None] + [CID] * 299


def test_the_limit_of_a_key_is_exact_and_counts_what_is_shared() -> None:
    right, wrong = b"a/" + b"b" * 1022, b"a/" + b"b" * 1023
    assert [key for key, *_ in read_node(node(None, [(0, right, None, CID)])).entries] == [right]
    assert refusal(read_node, node(None, [(0, wrong, None, CID)])) == "bad_mst"
    assert refusal(read_node, node(None, [(0, right, None, CID), (1024, b"b", None, CID)])) == "bad_mst"


def test_a_record_that_is_no_dag_cbor_is_still_part_of_the_tree() -> None:
    raw = b"\x01\x55" + CID[2:]
    top, nodes = tree({PATHS[0]: raw})
    assert walked(nodes | {raw: b"anything"}, top) == [(PATHS[0], raw)]


def test_a_top_without_keys_is_taken_as_real_software_signs_it() -> None:
    found = car_of(DATA / "cars" / "did_plc_cugacuj46dltsxlnm72craib.car")
    data = read_commit(found.blocks[found.root]).data
    assert not read_node(found.blocks[data]).entries
    assert len(walked(found.blocks, data)) == 4
