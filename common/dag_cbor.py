"""Strict DAG-CBOR that is cheap to refuse, and CIDs (specs: atproto data-model and repository, DRISL).

libipld decodes, but it takes non-minimal integers and float32, recurses on nesting and reserves memory for whatever
length a block claims. `check` therefore goes over every block first, and nothing reaches libipld unchecked.
"""

import math
import struct
from hashlib import sha256
from typing import Any, TypeGuard

from libipld import decode_dag_cbor, decode_dag_cbor_multi, decode_multibase, encode_cid

from common.errors import BadInput

MAX_DEPTH = 32
MAX_ITEMS = 131_072  # of all containers together; a map counts its keys and its values

CBOR_CID = b"\x01\x71\x12\x20"  # version 1, dag-cbor, sha-256 of 32 bytes; the digest follows
RAW_CID = b"\x01\x55\x12\x20"
_LINK = b"\xd8\x2a\x58\x25\x00"  # tag 42, a byte string of 37, the identity multibase prefix
_CHECKED_LINKS = (_LINK + CBOR_CID, _LINK + RAW_CID)
_LEAST = (24, 1 << 8, 1 << 16, 1 << 32)  # the least argument that needs 1, 2, 4, 8 bytes of its own


def _steps() -> tuple[int, ...]:
    """For each first byte: the way to the next item, or minus the children of a short container, or 0: look closer."""
    steps = [0] * 256
    for n in range(24):
        steps[n] = steps[0x20 + n] = 1
        steps[0x40 + n] = steps[0x60 + n] = 1 + n
        steps[0x80 + n], steps[0xA0 + n] = -n, -2 * n
    for lone in (0x80, 0xA0, 0xF4, 0xF5, 0xF6):  # [], {}, false, true, null
        steps[lone] = 1
    steps[0xFB] = 9  # float64; libipld refuses NaN, the infinities and -0
    return tuple(steps)


_STEPS = _steps()


class Link(bytes):
    """The raw bytes of a CID, marked so that `encode` writes a link and not a byte string."""

    __slots__ = ()


def check(block: bytes, max_depth: int = MAX_DEPTH, max_items: int = MAX_ITEMS, objects: int = 1) -> list[bool]:
    """Refuse what is not canonical, shallow DAG-CBOR, so many objects; keys, UTF-8 and floats are left to `decode`.

    Returns, for each link and each byte string of 24 bytes or more, in their order, whether it is a link.
    A link is CIDv1, sha-256, dag-cbor or raw. Raises BadInput("bad_cbor").
    """
    links: list[bool] = []
    try:
        end = _skip(block, objects, max_depth, max_items, links)
    except IndexError:
        raise BadInput("bad_cbor", "truncated") from None
    if end != len(block):
        raise BadInput("bad_cbor", "wrong length")
    return links


def decode(block: bytes) -> Any:
    """The value of one object. CIDs come out as raw bytes, just as byte strings do. Raises BadInput("bad_cbor")."""
    check(block)
    return decode_checked(block)


def decode_checked(block: bytes) -> Any:
    """`decode` for a block that has passed `check`."""
    try:
        return decode_dag_cbor(block)
    except ValueError as error:
        raise BadInput("bad_cbor", str(error)) from error


def decode_header_and_body(frame: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two maps of a websocket message (spec: event-stream, framing). Raises BadInput("bad_cbor")."""
    check(frame, objects=2)
    try:
        header, body = decode_dag_cbor_multi(frame)
    except ValueError as error:
        raise BadInput("bad_cbor", str(error)) from error
    if not isinstance(header, dict) or not isinstance(body, dict):
        raise BadInput("bad_cbor", "header or body is not a map")
    return header, body


def encode(value: Any) -> bytes:
    """The canonical encoding. CIDs must be `Link`s: plain bytes become a byte string whatever is in them.

    Raises BadInput("bad_cbor") for what DAG-CBOR or `decode` would refuse, TypeError for other Python types.
    """
    return _encoded(value, MAX_DEPTH)


def cid_of(block: bytes) -> bytes:
    """The CID of a DAG-CBOR block, 36 raw bytes."""
    return CBOR_CID + sha256(block).digest()


def is_cid(value: object) -> TypeGuard[bytes]:
    """Whether this is a raw CID of the only kind in use: version 1, sha-256, dag-cbor or raw."""
    return isinstance(value, bytes) and len(value) == 36 and value[:4] in (CBOR_CID, RAW_CID)


def cid_text(raw: bytes) -> str:
    """`bafy...` or `bafk...`. Raises BadInput("bad_cid")."""
    if not is_cid(raw):
        raise BadInput("bad_cid", repr(raw)[:80])
    return encode_cid(raw)


def cid_from_text(text: str) -> Link:
    """The raw bytes of a CID in base32. Raises BadInput("bad_cid")."""
    try:
        base, raw = decode_multibase(text) if len(text) == 59 else ("", b"")
    except ValueError as error:
        raise BadInput("bad_cid", text[:80]) from error
    if base != "b" or not is_cid(raw) or encode_cid(raw) != text:
        raise BadInput("bad_cid", text[:80])
    return Link(raw)


def _skip(block: bytes, left: int, max_depth: int, budget: int, links: list[bool]) -> int:
    """Where the first `left` objects end, perhaps beyond the block."""
    at = 0
    outer: list[int] = []  # how many items are still to come in each enclosing container
    while True:
        while left:
            left -= 1
            head = block[at]
            step = _STEPS[head]
            if step > 0:
                at += step
                continue
            if head == 0x78 and block[at + 1] > 23:  # most of what has its length in a second byte is text
                at += 2 + block[at + 1]
                continue
            at, children = (at + 1, -step) if step else _long_item(block, at, links)
            if children:
                budget -= children
                if budget < 0 or len(outer) >= max_depth:
                    raise BadInput("bad_cbor", "too large or too deep")
                outer.append(left)
                left = children
        if not outer:
            return at
        left = outer.pop()


def _long_item(block: bytes, at: int, links: list[bool]) -> tuple[int, int]:
    """An item whose argument has bytes of its own: where the next one begins, and how many children this one has."""
    if block[at : at + 9] in _CHECKED_LINKS:
        links.append(True)
        return at + 41, 0
    major, width = block[at] >> 5, (block[at] & 31) - 24
    if major > 5 or width > 3:
        raise BadInput("bad_cbor", f"forbidden byte {block[at]:#04x}")
    start = at + 1 + (1 << width)
    argument = int.from_bytes(block[at + 1 : start], "big")
    if argument < _LEAST[width]:
        raise BadInput("bad_cbor", "not the shortest form")
    if major < 2:
        return start, 0
    if major > 3:
        return start, argument if major == 4 else 2 * argument
    if major == 2:
        links.append(False)
    return start + argument, 0


def _encoded(value: Any, depth: int) -> bytes:
    if not isinstance(value, dict | list | tuple):
        return _scalar(value)
    if depth == 0:
        raise BadInput("bad_cbor", "too deep")
    if not isinstance(value, dict):
        return head(4, len(value)) + b"".join([_encoded(item, depth - 1) for item in value])
    # a head grows with the length behind it, so sorting encoded keys is sorting by length, then bytes
    entries = sorted((_text(key), _encoded(item, depth - 1)) for key, item in value.items())
    return head(5, len(value)) + b"".join([part for entry in entries for part in entry])


def _scalar(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return b"\xf6" if value is None else b"\xf5" if value else b"\xf4"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, Link):
        return _LINK + value
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if not isinstance(value, float):
        raise TypeError(f"DAG-CBOR has no {type(value).__name__}")
    if not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
        raise BadInput("bad_cbor", "a float that is not finite, or -0")
    return struct.pack(">Bd", 0xFB, value)


def _text(value: str) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError as error:
        raise BadInput("bad_cbor", "a lone surrogate") from error
    return head(3, len(raw)) + raw


def head(major: int, argument: int) -> bytes:
    """How an item of this major type begins: its argument in the shortest form."""
    if argument < 24:
        return bytes((major << 5 | argument,))
    for width, limit in enumerate((1 << 8, 1 << 16, 1 << 32, 1 << 64)):
        if argument < limit:
            return bytes((major << 5 | 24 + width,)) + argument.to_bytes(1 << width, "big")
    raise BadInput("bad_cbor", "an integer beyond 64 bits")
