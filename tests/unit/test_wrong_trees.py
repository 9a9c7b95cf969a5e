"""Trees that are one change away from a right one, and nodes in another form than the canonical one, are refused."""

from collections.abc import Callable
from typing import Any

import pytest

from common.dag_cbor import Link, cid_of, encode
from common.repo import read_node, walk
from tests.refusals import refusal
from tests.signed_repos import Blocks, common_prefix, depth, node, record

RECORD = record("a record")
CID = cid_of(RECORD)
_PATHS = [f"app.bsky.feed.post/3mfxgt2k7{i:04d}".encode() for i in range(60)]
_low, _high = ([path for path in _PATHS if depth(path) == height] for height in (0, 1))
LOW, LOW_TOO = _low[:2]
HIGH = next(key for key in _high if key > LOW_TOO)
LATER = next(key for key in _low if key > HIGH)
HIGH_TOO = next(key for key in _high if key > LATER)


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


def entry(
    key: bytes, right: bytes | None = None, after: bytes = b"", beyond: int = 0
) -> tuple[int, bytes, bytes | None, bytes]:
    """`beyond` is how many bytes too many, or too few, are said to be shared with the key before."""
    n = common_prefix(after, key) + beyond
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
    assert refusal(lambda: [*walk(heap, top)]) == "bad_mst"


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
    assert refusal(lambda: [*walk(heap, top_of(heap, foot))]) == "bad_mst"
    assert heap.looked_up <= 130


def test_the_wrong_trees_are_one_change_away_from_a_right_one() -> None:
    heap = Heap({CID: RECORD})
    left = heap.node(entry(LOW), entry(LOW_TOO, after=LOW))
    top = heap.node(entry(HIGH, right=heap.node(entry(LATER))), entry(HIGH_TOO, after=HIGH), left=left)
    assert [path for path, _ in walk(heap, top)] == [LOW, LOW_TOO, HIGH, LATER, HIGH_TOO]


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
    entries = [(0 if i == 0 else common_prefix(keys[i - 1], key), key) for i, key in enumerate(keys)]
    read = read_node(node(CID, [(p, key[p:], CID if p else None, CID) for p, key in entries]))
    assert [key for key, *_ in read.entries] == keys
    assert read.left == CID
    assert [right for _, _, right in read.entries] == [None] + [CID] * 299


def test_the_limit_of_a_key_is_exact_and_counts_what_is_shared() -> None:
    right, wrong = b"a/" + b"b" * 1022, b"a/" + b"b" * 1023
    assert [key for key, *_ in read_node(node(None, [(0, right, None, CID)])).entries] == [right]
    assert refusal(read_node, node(None, [(0, wrong, None, CID)])) == "bad_mst"
    assert refusal(read_node, node(None, [(0, right, None, CID), (1024, b"b", None, CID)])) == "bad_mst"
