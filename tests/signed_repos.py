"""Repos made and signed here, so that a test can have one that is wrong in a single way."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.dag_cbor import Link, cid_of, encode
from common.keys import Curve, PublicKey

DID = "did:plc:madeheremadeheremadehere"
REV = "3mfxgt2k7ircm"
ORDERS = {
    "k256": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}
Blocks = dict[bytes, bytes]


class Signer:
    """A private key that is only as secret as this file."""

    def __init__(self, curve: Curve = "k256", number: int = 7) -> None:
        self._curve = curve
        self._key = ec.derive_private_key(number, ec.SECP256K1() if curve == "k256" else ec.SECP256R1())
        self.public = PublicKey(curve, self.point(PublicFormat.CompressedPoint))

    def point(self, form: PublicFormat) -> bytes:
        return self._key.public_key().public_bytes(Encoding.X962, form)

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self.sign_der(message))
        order = ORDERS[self._curve]
        return r.to_bytes(32, "big") + min(s, order - s).to_bytes(32, "big")

    def sign_der(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(SHA256()))


def record(text: str) -> bytes:
    return encode({"$type": "app.bsky.feed.post", "text": text, "createdAt": "2026-11-20T00:00:00.000Z"})


def depth(key: bytes) -> int:
    bits = "".join(f"{byte:08b}" for byte in sha256(key).digest())
    return (len(bits) - len(bits.lstrip("0"))) // 2


def node(left: bytes | None, entries: Iterable[tuple[int, bytes, bytes | None, bytes]]) -> bytes:
    """Entries are (shared bytes, the rest of the key, right subtree, record)."""
    fields = [{"p": p, "k": k, "t": right and Link(right), "v": Link(value)} for p, k, right, value in entries]
    return encode({"l": left and Link(left), "e": fields})


def tree(records: Mapping[str, bytes]) -> tuple[bytes, Blocks]:
    """The CID of the top of the only right tree of these (path, CID of the record), and its nodes."""
    leaves = sorted((path.encode(), cid) for path, cid in records.items())
    nodes: Blocks = {}
    top = _subtree(leaves, max((depth(key) for key, _ in leaves), default=0), nodes)
    return top or _stored(node(None, []), nodes), nodes


def _subtree(leaves: Sequence[tuple[bytes, bytes]], height: int, nodes: Blocks) -> bytes | None:
    if not leaves:
        return None
    here = [i for i, (key, _) in enumerate(leaves) if depth(key) == height]
    ends = [*here, len(leaves)]
    left = _subtree(leaves[: ends[0]], height - 1, nodes)
    entries, previous = [], b""
    for i, end in zip(here, ends[1:], strict=True):
        key, cid = leaves[i]
        shared = common_prefix(previous, key)
        entries.append((shared, key[shared:], _subtree(leaves[i + 1 : end], height - 1, nodes), cid))
        previous = key
    return _stored(node(left, entries), nodes)


def common_prefix(a: bytes, b: bytes) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _stored(block: bytes, blocks: Blocks) -> bytes:
    cid = cid_of(block)
    blocks[cid] = block
    return cid


def commit(data: bytes, signer: Signer, /, **changes: object) -> bytes:
    """A signed commit; `changes` replace fields, or add them, before it is signed."""
    fields = {"did": DID, "rev": REV, "data": Link(data), "prev": None, "version": 3} | changes
    return encode(fields | {"sig": signer.sign(encode(fields))})


def car(root: bytes, blocks: Iterable[bytes | tuple[bytes, bytes]]) -> bytes:
    """A CAR of blocks in this order; a block may come with a CID that is not its own."""
    header = encode({"version": 1, "roots": [Link(root)]})
    sections = [block if isinstance(block, tuple) else (cid_of(block), block) for block in blocks]
    return varint(len(header)) + header + b"".join(varint(len(cid + block)) + cid + block for cid, block in sections)


def repo(records: Mapping[str, bytes], signer: Signer, /, **changes: object) -> bytes:
    """The CAR of a whole repo: path -> record block."""
    top, nodes = tree({path: cid_of(block) for path, block in records.items()})
    signed = commit(top, signer, **changes)
    return car(cid_of(signed), [signed, *nodes.values(), *records.values()])


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes((low | 0x80,)) + varint(rest) if rest else bytes((low,))
