"""CAR v1 bytes -> blocks (specs: car-v1, atproto repository).

Blocks may come in any order, more than once and with strangers among them; whether one is missing only the walk of the
tree can tell.
"""

from collections.abc import Iterator
from hashlib import sha256
from mmap import mmap

from msgspec import Struct

from common.dag_cbor import CBOR_CID, RAW_CID, decode, is_cid
from common.errors import BadInput

MAX_BLOCK_BYTES = 2 << 20
MAX_BLOCKS = 5_000_000
MAX_HEADER_BYTES = 64 << 10
_MAX_SECTION = MAX_BLOCK_BYTES + 36
_KINDS = (CBOR_CID, RAW_CID)
_ONE_ROOT = b"\x3a\xa2eroots\x81\xd8\x2a\x58\x25\x00"  # the whole header: this, a CID, and
_VERSION_1 = b"gversion\x01"


class Car(Struct, frozen=True):
    """`blocks` maps raw CIDs (36 bytes) to blocks. The first root is the commit's CID."""

    roots: tuple[bytes, ...]
    blocks: dict[bytes, bytes]

    @property
    def root(self) -> bytes:
        return self.roots[0]


def read_car(data: bytes, *, max_blocks: int = MAX_BLOCKS) -> Car:
    """Split a CAR and hash its blocks, so that what stands under a CID is what the CID names.

    Raises BadInput: "truncated_car" if the data ends within a section, "bad_block_hash", "bad_car" for the rest.
    """
    car = split_car(data, max_blocks=max_blocks)
    for cid, block in car.blocks.items():
        check_hash(cid, block)
    return car


def split_car(data: bytes, *, max_blocks: int = MAX_BLOCKS) -> Car:
    """The same, and nothing is hashed: whoever uses a block has to `check_hash`. Raises BadInput as `read_car`."""
    roots, at = read_header(data)
    blocks: dict[bytes, bytes] = {}
    for _, cid, block in sections(data, at, max_blocks):
        if blocks.setdefault(cid, block) != block:
            raise BadInput("bad_block_hash", f"two blocks for {cid.hex()}")
    return Car(roots, blocks)


def check_hash(cid: bytes, block: bytes) -> None:
    """Raises BadInput("bad_block_hash") if the block is not what its raw CID names."""
    if sha256(block).digest() != cid[4:]:
        raise BadInput("bad_block_hash", cid.hex())


def sections(data: bytes | mmap, at: int, max_blocks: int = MAX_BLOCKS) -> Iterator[tuple[int, bytes, bytes]]:
    """Where each section begins, its CID and its block, of which the hash has still to be checked.

    Raises BadInput("truncated_car", "bad_car").
    """
    end = len(data)
    for _ in range(max_blocks + 1):
        if at == end:
            return
        start = at
        size, at = read_varint(data, at)
        stop = at + size
        cid, block = data[at : at + 36], data[at + 36 : stop]
        if stop > end or size < 36 or size > _MAX_SECTION or cid[:4] not in _KINDS:
            raise _bad_section(cid, size)
        yield start, cid, block
        at = stop
    raise BadInput("bad_car", f"more than {max_blocks} blocks")


def read_header(data: bytes | mmap) -> tuple[tuple[bytes, ...], int]:
    """The roots, and where the first section begins. Raises BadInput("truncated_car", "bad_car")."""
    if data[: len(_ONE_ROOT)] == _ONE_ROOT and data[50:59] == _VERSION_1 and data[14:18] in _KINDS:
        return (data[14:50],), 59  # all repos but the odd one; three times as fast
    size, at = read_varint(data, 0)
    if size > MAX_HEADER_BYTES:
        raise BadInput("bad_car", "header too large")
    if at + size > len(data):
        raise BadInput("truncated_car", "within the header")
    try:
        header = decode(data[at : at + size])
    except BadInput as error:
        raise BadInput("bad_car", f"header: {error.detail}") from error
    return _roots(header), at + size


def _roots(header: object) -> tuple[bytes, ...]:
    if not isinstance(header, dict) or header.keys() != {"version", "roots"}:
        raise BadInput("bad_car", "header")
    version, roots = header["version"], header["roots"]
    if version != 1 or isinstance(version, bool):
        raise BadInput("bad_car", "not version 1")
    if not isinstance(roots, list) or not roots or not all(is_cid(root) for root in roots):
        raise BadInput("bad_car", "roots")
    return tuple(roots)


def read_varint(data: bytes | mmap, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number in its shortest form, and where it ends. Four bytes hold any size that is taken."""
    head = data[at : at + 2]
    if len(head) == 2 and head[0] > 0x7F and 0 < head[1] < 0x80:
        return head[0] & 0x7F | head[1] << 7, at + 2  # nearly all sizes
    value = shift = 0
    for byte in data[at : at + 4]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if byte == 0 and shift > 7:
                raise BadInput("bad_car", "a length that is not in its shortest form")
            return value, at + shift // 7
    if shift == 28:
        raise BadInput("bad_car", "a length out of bounds")
    raise BadInput("truncated_car", "within a length")


def _bad_section(cid: bytes, size: int) -> BadInput:
    """A section cut short at the end of the data, unless its head is wrong already."""
    if 36 <= size <= _MAX_SECTION and any(kind.startswith(cid[:4]) for kind in _KINDS):
        return BadInput("truncated_car", "within a block")
    return BadInput("bad_car", f"a section of {size} bytes, CID {cid[:4].hex()}...")
