"""A repo at one revision: its signed commit, and the Merkle search tree which that binds (spec: repository)."""

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from msgspec import Struct

from common.dag_cbor import CBOR_CID, decode, head, is_cid
from common.errors import BadInput, TryLater
from common.keys import PublicKey, verify
from common.syntax import is_did, is_tid

MAX_PATH_BYTES = 1024
MAX_HEIGHT = 128  # of a key: pairs of bits of a sha-256
_PATH = re.compile(rb"[A-Za-z0-9_~:.-]+/[A-Za-z0-9_~:.-]+")

_COMMIT_FIELDS = {"did", "version", "data", "rev", "prev", "sig"}
_SIG_HEAD = b"csigX\x40"  # the key "sig", and the head of 64 bytes
_DATA_HEAD = b"ddata\xd8\x2a\x58\x25\x00"  # the key "data", and the head of a link

# Almost every commit is this; four times as fast as to decode it.
_USUAL = re.compile(
    rb"\xa6cdidx\x20(did:plc:[a-z2-7]{24})crevm([2-7a-j][2-7a-z]{12})(csigX\x40(.{64}))"
    rb"ddata\xd8\x2a\x58\x25\x00(\x01\x71\x12\x20.{32})"
    rb"dprev(?:\xf6|\xd8\x2a\x58\x25\x00(\x01[\x71\x55]\x12\x20.{32}))gversion\x03",
    re.DOTALL,
)

# A node has one canonical encoding, so it is read as that: {"e": [{"k", "p", "t", "v"}, ...], "l"}. Of a key an entry
# has what it does not share with the one before. What no path may hold is not read as part of one, so "ap" ends it.
_LINK = rb"\xd8\x2a\x58\x25\x00"
_CHILD = rb"(?:\xf6|" + _LINK + rb"(\x01\x71\x12\x20.{32}))"
_NODE = re.compile(rb"\xa2ae([\x80-\x97]|\x98.|\x99..)", re.DOTALL)
_ENTRY = re.compile(
    rb"\xa4ak([\x40-\x57]|\x58.|\x59..)([A-Za-z0-9_~:./-]*)ap([\x00-\x17]|\x18.|\x19..)"
    rb"at" + _CHILD + rb"av" + _LINK + rb"(\x01[\x71\x55]\x12\x20.{32})",
    re.DOTALL,
)
_LEFT = re.compile(rb"al" + _CHILD, re.DOTALL)
_LENGTHS = {head(2, length): length for length in range(MAX_PATH_BYTES + 1)}
_SHARED = {head(0, length): length for length in range(MAX_PATH_BYTES + 1)}

# A key, the raw CID of its record, and that of the node with the keys between this one and the next, if there are any.
Entry = tuple[bytes, bytes, bytes | None]

# One part of a tree in the order of its keys: a key, the raw CID of its record, and the height at which the key stands;
# or no key, the raw CID of a whole subtree's top, and its height. Both are made by the dozen for each commit.
Item = tuple[bytes, bytes, int]
# of the first byte of a hash: how many pairs of its bits are zero, before one that is not
_LEADING_PAIRS = bytes((8 - byte.bit_length()) // 2 for byte in range(256))


class Commit(Struct, frozen=True):
    """`data` is the raw CID of the tree's top, `unsigned` the bytes that `sig` (r and s, 64 bytes) was made over."""

    did: str
    rev: str
    data: bytes
    prev: bytes | None
    sig: bytes
    unsigned: bytes


class Node(NamedTuple):
    """Raw CIDs: `left` of the node with the keys before the first entry."""

    left: bytes | None
    entries: list[Entry]


def read_commit(block: bytes) -> Commit:
    """A commit of version 3. Fields that we do not know are part of what is signed. Raises BadInput("bad_commit")."""
    if usual := _USUAL.fullmatch(block):
        did, rev, _, sig, data, prev = usual.groups()
        unsigned = b"\xa5" + block[1 : usual.start(3)] + block[usual.end(3) :]
        return Commit(did.decode(), rev.decode(), data, prev, sig, unsigned)
    try:
        value = decode(block)
    except BadInput as error:
        raise BadInput("bad_commit", error.detail) from error
    if not isinstance(value, dict) or not value.keys() >= _COMMIT_FIELDS or not _types_are_right(value):
        raise BadInput("bad_commit", "fields")
    sig, data = value["sig"], value["data"]
    at = block.find(_SIG_HEAD + sig)
    # The signed bytes are cut out of the block: whoever encodes anew must first guess what is a link and what is not.
    if block.count(_SIG_HEAD) != 1 or at < 0 or block[0] > 0xB7 or _DATA_HEAD + data not in block:
        raise BadInput("bad_commit", "encoding")
    unsigned = bytes((block[0] - 1,)) + block[1:at] + block[at + len(_SIG_HEAD) + 64 :]
    return Commit(value["did"], value["rev"], data, value["prev"], sig, unsigned)


def verify_commit(commit: Commit, key: PublicKey) -> None:
    """Raises BadInput("bad_signature") if this key did not sign this commit."""
    if not verify(key, commit.unsigned, commit.sig):
        raise BadInput("bad_signature", f"{commit.did} {commit.rev}")


def walk(blocks: Mapping[bytes, bytes], data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every (path, raw CID of the record) of the tree whose top is `data`, in the order of the paths.

    Nothing is proven before it ends: then each node and each record block was there, every key in its only right place.
    No node is read twice: the keys under it would come again, out of order, and there are no subtrees without keys.
    Raises TryLater("incomplete_repo") where a block is missing, BadInput("bad_mst") where the tree is wrong.
    """
    top = _node(blocks, data)
    last = b""
    height = height_of(blocks, top)
    open_nodes = [iter(top.entries)]  # from the top down: what is still to come of each
    left = top.left
    while open_nodes:
        while left:
            height -= 1
            if height < 0:
                raise BadInput("bad_mst", "nodes below the lowest height")
            node = _subtree(blocks, left)
            open_nodes.append(iter(node.entries))
            left = node.left
        for key, cid, left in open_nodes[-1]:
            if key <= last or depth_of(key) != height or not is_path(key):
                raise BadInput("bad_mst", f"key {key[:80]!r} at height {height} after {last[:80]!r}")
            if cid not in blocks:
                raise TryLater("incomplete_repo", f"no record at {key.decode()}")
            last = key
            yield key, cid
            if left:
                break
        else:
            open_nodes.pop()
            height += 1


def is_path(key: bytes) -> bool:
    """Whether a tree may hold it. An NSID in it is not the tree's business: one odd record costs no other."""
    return _PATH.fullmatch(key) is not None


def depth_of(key: bytes) -> int:
    """The height at which a key stands: pairs of leading zero bits of its sha-256."""
    digest = sha256(key).digest()
    return _LEADING_PAIRS[digest[0]] if digest[0] else (256 - int.from_bytes(digest, "big").bit_length()) // 2


def read_node(block: bytes) -> Node:
    """A node with its full keys, ascending and maximally compressed. Raises BadInput("bad_mst")."""
    begin = _NODE.match(block)
    if begin is None:
        raise BadInput("bad_mst", "not a node")
    entries: list[Entry] = []
    key, at = b"", begin.end()
    for found in _ENTRY.finditer(block, at):
        length, suffix, sharing, right, record = found.groups()
        shared = _SHARED.get(sharing, MAX_PATH_BYTES + 1)
        if found.start() != at or _LENGTHS.get(length) != len(suffix):
            raise BadInput("bad_mst", "not an entry")
        if shared + len(suffix) > MAX_PATH_BYTES:  # a few bytes an entry could make of one long key any number
            raise BadInput("bad_mst", "a key too long")
        # One comparison for two rules: equal bytes mean that more could be shared, lesser ones that the keys descend.
        if shared > len(key) or suffix[:1] <= key[shared : shared + 1]:
            raise BadInput("bad_mst", f"{suffix[:80]!r} after {shared} bytes of {key[:80]!r}")
        key, at = key[:shared] + suffix, found.end()
        entries.append((key, record, right))
    left = _LEFT.fullmatch(block, at)
    if left is None or begin[1] != head(4, len(entries)):
        raise BadInput("bad_mst", "not a node")
    return Node(left[1], entries)


def _node(blocks: Mapping[bytes, bytes], cid: bytes) -> Node:
    block = blocks.get(cid)
    if block is None:
        raise TryLater("incomplete_repo", f"no node {cid.hex()}")
    return read_node(block)


def height_of(blocks: Mapping[bytes, bytes], top: Node) -> int:
    """How high the top stands, which only the keys tell.

    It may be without keys, though the specification has such tops cut off: @atproto/repo signs them after a commit that
    deletes the last record and creates another.
    """
    above = 0
    while not top.entries and top.left:
        top = _node(blocks, top.left)
        above += 1
        if above > MAX_HEIGHT:
            raise BadInput("bad_mst", "a tower without keys")
    return above + depth_of(top.entries[0][0]) if top.entries else above


def _subtree(blocks: Mapping[bytes, bytes], cid: bytes) -> Node:
    node = _node(blocks, cid)
    if not node.entries and not node.left:
        raise BadInput("bad_mst", "a subtree without keys")
    return node


def items_of(node: Node, height: int) -> list[Item]:
    """What stands in a node, last first."""
    items: list[Item] = [(b"", node.left, height - 1)] if node.left else []
    for key, record, right in node.entries:
        items.append((key, record, height))
        if right:
            items.append((b"", right, height - 1))
    items.reverse()
    return items


def _types_are_right(value: dict[str, Any]) -> bool:
    did, rev, data, prev, sig = (value[name] for name in ("did", "rev", "data", "prev", "sig"))
    return (
        (isinstance(did, str) and is_did(did) and isinstance(rev, str) and is_tid(rev))
        and (type(value["version"]) is int and value["version"] == 3)
        and (is_cid(data) and data.startswith(CBOR_CID) and (prev is None or is_cid(prev)))
        and isinstance(sig, bytes)
    )
