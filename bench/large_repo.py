"""A signed repo of any size, written to a file as it is made, so that a gigabyte of it needs no memory here."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bench.unpack import MIX, record_block
from common.dag_cbor import cid_of
from common.repo import depth_of
from common.syntax import tid_at
from tests.signed_repos import Signer, commit, common_prefix, node, varint

HEADER_BYTES = 59
RECORDS_IN_A_MB = 3100
Entry = tuple[bytes, bytes, bytes | None]  # path, CID of the record, CID of the tree between this one and the next


class CarFile:
    """Blocks as they come. The commit comes last, so the place of the header is kept for it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        file.write(bytes(HEADER_BYTES))

    def add(self, block: bytes) -> bytes:
        cid = cid_of(block)
        self._file.write(varint(len(cid) + len(block)) + cid + block)
        return cid

    def finish(self, root: bytes) -> None:
        self._file.seek(0)
        self._file.write(b"\x3a\xa2eroots\x81\xd8\x2a\x58\x25\x00" + root + b"gversion\x01")


class Tree:
    """The search tree of paths that come in their order; only the last node of each height is still to be written."""

    def __init__(self, car: CarFile) -> None:
        self._car = car
        self._left: list[bytes | None] = []
        self._entries: list[list[Entry]] = []

    def add(self, path: bytes, record: bytes) -> None:
        height = depth_of(path)
        while len(self._entries) <= height:
            self._left.append(None)
            self._entries.append([])
        self._close_below(height)
        self._entries[height].append((path, record, None))

    def finish(self) -> bytes:
        top = len(self._entries) - 1
        self._close_below(top)
        return self._written(top)

    def _close_below(self, height: int) -> None:
        for below in range(height):
            if not self._entries[below] and self._left[below] is None:
                continue
            tree = self._written(below)
            above = self._entries[below + 1]
            if above:
                above[-1] = (*above[-1][:2], tree)
            else:
                self._left[below + 1] = tree

    def _written(self, height: int) -> bytes:
        entries, previous = [], b""
        for path, record, right in self._entries[height]:
            shared = common_prefix(previous, path)
            entries.append((shared, path[shared:], right, record))
            previous = path
        block = node(self._left[height], entries)
        self._left[height], self._entries[height] = None, []
        return self._car.add(block)


def write_repo(path: Path, megabytes: int, signer: Signer, did: str) -> None:
    with path.open("wb", buffering=1 << 20) as file:
        car = CarFile(file)
        tree = Tree(car)
        for key, block in _records(megabytes * RECORDS_IN_A_MB):
            tree.add(key, car.add(block))
        car.finish(car.add(commit(tree.finish(), signer, did=did)))


def _records(count: int) -> Iterator[tuple[bytes, bytes]]:
    """In the order of their paths."""
    chance = random.Random(1)
    for collection in sorted(MIX):
        for number in range(count * MIX[collection] // 100):
            path = f"{collection}/{tid_at(1_700_000_000_000_000 + number * 1_000_003)}"
            yield path.encode(), record_block(chance, collection, number)
