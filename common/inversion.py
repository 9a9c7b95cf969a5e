"""Undo a commit: from the few nodes that it brings, the tree that was there before (proposal 0006: inversion).

The blocks are bound by hash to the tree that is signed, so operations which lead back to the former tree are all that
was done. What is not among the blocks stays a subtree with a name: the former tree has it too, or too little is known.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from common.dag_cbor import cid_of, head
from common.errors import BadInput, TryLater
from common.repo import MAX_PATH_BYTES, Item, depth_of, height_of, is_path, items_of, read_node

_LINK = b"\xd8\x2a\x58\x25\x00"
_KEY_HEADS = tuple(b"\xa4ak" + head(2, length) for length in range(MAX_PATH_BYTES + 1))
_SHARED = tuple(b"ap" + head(0, length) + b"at" for length in range(MAX_PATH_BYTES + 1))
_MOST_EMPTY_TOPS = 8


class Change(NamedTuple):
    """What was done to one key: the raw CID of its record before and after, None where there was none."""

    before: bytes | None
    after: bytes | None


Changes = Mapping[bytes, Change]


class KnownTree:
    """A tree as far as one has its blocks: its keys, and the subtrees whose blocks are not there, in order."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self._places = {key: place for place, (key, _, _) in enumerate(items) if key}
        self._keys = list(self._places)

    def record_at(self, key: bytes) -> bytes | None:
        """The raw CID of the record. Raises BadInput("inversion_incomplete") where a subtree is not there."""
        place = self._places.get(key)
        if place is not None:
            return self.items[place][1]
        self.place_for(key)
        return None

    def place_for(self, key: bytes) -> int:
        """Before which item a key would stand that is not in the tree. Raises BadInput("inversion_incomplete")."""
        index = bisect_left(self._keys, key)
        start = self._places[self._keys[index - 1]] + 1 if index else 0
        end = self._places[self._keys[index]] if index < len(self._keys) else len(self.items)
        if start < end:
            raise BadInput("inversion_incomplete", f"no node where {key[:80]!r} would be")
        return end


def known_tree(blocks: Mapping[bytes, bytes], data: bytes) -> KnownTree:
    """The tree whose top is `data`. Raises BadInput: "bad_mst", "inversion_incomplete" if not even the top is there."""
    pending = _topmost_items(blocks, data)
    found: list[Item] = []
    last = b""
    while pending:
        item = pending.pop()
        key, cid, height = item
        if key:
            if key <= last or depth_of(key) != height or not is_path(key):
                raise BadInput("bad_mst", f"key {key[:80]!r} at height {height} after {last[:80]!r}")
            last = key
        elif height < 0:
            raise BadInput("bad_mst", "a subtree below the lowest")
        elif cid in blocks:
            pending += _items_below(blocks[cid], height)
            continue
        found.append(item)
    return KnownTree(found)


def check_outcome(tree: KnownTree, changes: Changes) -> None:
    """Whether the tree holds what was written and not what was deleted.

    Raises BadInput: "ops_mismatch", or "inversion_incomplete" if too little is known of it.
    """
    for key, change in changes.items():
        if tree.record_at(key) != change.after:
            raise BadInput("ops_mismatch", f"another record at {key[:80]!r}")


def leads_back_to(prev_data: bytes, tree: KnownTree, changes: Changes) -> bool:
    """Whether these changes led from the tree whose top is `prev_data` to this one.

    Raises BadInput("inversion_incomplete") if too little is known of it.
    """
    items = list(_undone(tree, changes))
    top = top_of(items)
    for _ in range(_MOST_EMPTY_TOPS):
        if top == prev_data:
            return True
        top = cid_of(_node(top, ()))  # @atproto/repo signs tops without keys when all of a height are deleted
    if _is_lone_subtree(items):
        raise BadInput("inversion_incomplete", "whether the only node left has keys")
    return False


def top_of(items: Sequence[Item]) -> bytes:
    """The raw CID of the top of the only right tree of these. Raises BadInput("inversion_incomplete")."""
    if _is_lone_subtree(items):
        return items[0][1]
    building = [_Open() for _ in range(max((height for key, _, height in items if key), default=0) + 1)]
    for key, cid, height in items:
        level = height if key else height + 1
        if level >= len(building):
            raise BadInput("inversion_incomplete", "a subtree higher than every key")
        _close_below(building, level)
        if key:
            building[level].entries.append((key, cid, None))
        else:
            building[level].add(cid)
    _close_below(building, len(building) - 1)
    return building[-1].closed()


def _is_lone_subtree(items: Sequence[Item]) -> bool:
    return len(items) == 1 and not items[0][0]


class _Open:
    """A node to which entries are still being added."""

    __slots__ = ("entries", "left")

    def __init__(self) -> None:
        self.left: bytes | None = None
        self.entries: list[tuple[bytes, bytes, bytes | None]] = []

    def add(self, subtree: bytes) -> None:
        """Behind the last key. Where there is one already, the two make one tree, for which their nodes are needed."""
        key, record, right = self.entries[-1] if self.entries else (b"", b"", self.left)
        if right is not None:
            raise BadInput("inversion_incomplete", "two subtrees side by side")
        if key:
            self.entries[-1] = (key, record, subtree)
        else:
            self.left = subtree

    def closed(self) -> bytes:
        return cid_of(_node(self.left, self.entries))


def _close_below(building: list[_Open], level: int) -> None:
    for below in range(level):
        node = building[below]
        if node.entries or node.left:
            building[below] = _Open()
            building[below + 1].add(node.closed())


def _node(left: bytes | None, entries: Iterable[tuple[bytes, bytes, bytes | None]]) -> bytes:
    """The inverse of read_node."""
    parts: list[bytes] = []
    previous, count = b"", 0
    for key, record, right in entries:
        shared = _shared(previous, key)
        suffix = key[shared:]
        parts += (_KEY_HEADS[len(suffix)], suffix, _SHARED[shared], _child(right), b"av", _LINK, record)
        previous, count = key, count + 1
    return b"".join((b"\xa2ae", head(4, count), *parts, b"al", _child(left)))


def _child(cid: bytes | None) -> bytes:
    return b"\xf6" if cid is None else _LINK + cid


def _shared(a: bytes, b: bytes) -> int:
    """How many bytes two keys have in common at their beginning."""
    length = min(len(a), len(b))
    difference = int.from_bytes(a[:length], "big") ^ int.from_bytes(b[:length], "big")
    return length - (difference.bit_length() + 7) // 8


def _topmost_items(blocks: Mapping[bytes, bytes], data: bytes) -> list[Item]:
    if data not in blocks:
        raise BadInput("inversion_incomplete", "no top")
    top = read_node(blocks[data])
    try:
        return items_of(top, height_of(blocks, top))
    except TryLater as missing:
        raise BadInput("inversion_incomplete", "no key tells how high the top is") from missing


def _items_below(block: bytes, height: int) -> list[Item]:
    items = items_of(read_node(block), height)
    if not items:
        raise BadInput("bad_mst", "a subtree without keys")
    return items


def _undone(tree: KnownTree, changes: Changes) -> Iterator[Item]:
    inserted: dict[int, list[Item]] = {}
    for key in sorted(key for key, change in changes.items() if change.after is None):
        place, record = tree.place_for(key), changes[key].before
        if record is not None:
            inserted.setdefault(place, []).append((key, record, depth_of(key)))
    for place, item in enumerate(tree.items):
        yield from inserted.get(place, ())
        key, _, height = item
        change = changes.get(key)
        if change is None:
            yield item
        elif change.before is not None:
            yield key, change.before, height
    yield from inserted.get(len(tree.items), ())


EMPTY_TREE = top_of(())
