"""A CAR that is too large for memory: its blocks stay in the file, and are found by a table of 12 to 24 bytes each."""

from array import array
from collections.abc import Iterator, Mapping
from mmap import MADV_DONTNEED, mmap

from common.car import check_hash, read_header, read_varint, sections

PAGES_KEPT_BYTES = 32 << 20
FAULT_AROUND_BYTES = 64 << 10  # what Linux maps when one byte is read that was not yet


class SpooledBlocks(Mapping[bytes, bytes]):
    """The blocks of a CAR in a file, by their CIDs. Every block has been hashed; which are there is decided once.

    An open hash table of places: no CID is kept, for each stands in the file. Nobody can make blocks that all begin at
    one place of it, for Python's hash of bytes is keyed anew in each process.
    """

    def __init__(self, car: mmap) -> None:
        """Raises BadInput("truncated_car", "bad_block_hash", "bad_car")."""
        self._car = car
        self._touched = 0
        roots, at = read_header(car)
        self.root = roots[0]
        self._starts = array("Q")
        for start, cid, block in sections(car, at):
            check_hash(cid, block)
            self._starts.append(start)
            self._let_go(len(block))
        self._mask = (1 << (2 * len(self._starts)).bit_length()) - 1
        self._table = array("I", bytes(4 * (self._mask + 1)))
        for number, start in enumerate(self._starts, 1):
            self._table[self._place(self._cid_at(start))] = number

    def __getitem__(self, cid: bytes) -> bytes:
        number = self._table[self._place(cid)]
        if not number:
            raise KeyError(cid)
        size, at = read_varint(self._car, self._starts[number - 1])
        self._let_go(FAULT_AROUND_BYTES + size)
        return self._car[at + 36 : at + size]

    def __contains__(self, cid: object) -> bool:
        return isinstance(cid, bytes) and self._table[self._place(cid)] > 0

    def __len__(self) -> int:
        """A block that the file holds twice counts once."""
        return sum(1 for number in self._table if number)

    def __iter__(self) -> Iterator[bytes]:
        return (self._cid_at(self._starts[number - 1]) for number in self._table if number)

    def _place(self, cid: bytes) -> int:
        """Where the CID stands in the table, or the free place where it would."""
        place = hash(cid) & self._mask
        while (number := self._table[place]) and self._cid_at(self._starts[number - 1]) != cid:
            place = (place + 1) & self._mask
        return place

    def _cid_at(self, start: int) -> bytes:
        """The CID of a section."""
        _, at = read_varint(self._car, start)
        self._let_go(FAULT_AROUND_BYTES)
        return self._car[at : at + 36]

    def _let_go(self, size: int) -> None:
        """Pages that were read count as our memory until they are given back."""
        self._touched += size
        if self._touched > PAGES_KEPT_BYTES:
            self._car.madvise(MADV_DONTNEED)
            self._touched = 0
