"""Public keys of accounts and labelers, and signatures by them (specs: cryptography, did).

k256 goes through libsecp256k1 where there is one, thirteen times as fast as OpenSSL; p256 through OpenSSL.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from libipld import decode_multibase

from common.errors import BadInput

try:
    import coincurve
except ImportError:  # it has no wheels for the newest Python; everything works without, slower
    coincurve = None  # type: ignore[assignment]  # mypy knows no optional module

Curve = Literal["k256", "p256"]

_GROUPS: dict[Curve, ec.EllipticCurve] = {"k256": ec.SECP256K1(), "p256": ec.SECP256R1()}
_ORDERS: dict[Curve, int] = {
    "k256": 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141,
    "p256": 0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551,
}
_MULTICODECS: dict[bytes, Curve] = {b"\xe7\x01": "k256", b"\x80\x24": "p256"}
_LEGACY_TYPES: dict[str, Curve] = {
    "EcdsaSecp256k1VerificationKey2019": "k256",
    "EcdsaSecp256r1VerificationKey2019": "p256",
}
_MAX_MULTIBASE = 128  # base58 takes quadratic time; the longest key, an uncompressed point, has 89 characters


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A point that is on its curve, compressed (33 bytes). Equal keys are equal, whatever form they were read from."""

    curve: Curve
    point: bytes


def verify(key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether this is the key's signature over sha-256 of `message`: r and s, 32 bytes each, low s, never DER."""
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if s > _ORDERS[key.curve] // 2:  # OpenSSL would take it
        return False
    return _verifier(key)(encode_dss_signature(r, s), message)


def key_in_document(document: Mapping[str, Any], did: str, fragment: str = "#atproto") -> PublicKey:
    """The first verification method with this id whose controller is `did`; labelers sign with "#atproto_label".

    The document is untrusted JSON. Raises BadInput("no_key") if there is none, BadInput("bad_key") if it is unusable.
    """
    methods = document.get("verificationMethod")
    for method in methods if isinstance(methods, list) else ():
        if not isinstance(method, dict) or method.get("id") not in (fragment, did + fragment):
            continue
        if method.get("controller") == did:
            return _key_of(method)
    raise BadInput("no_key", f"{did} {fragment}")


def key_of_multikey(text: str) -> PublicKey:
    """`z...`: a multicodec and a compressed point in base58btc. Raises BadInput("bad_key")."""
    raw = _multibase(text)
    curve = _MULTICODECS.get(raw[:2])
    if curve is None or len(raw) != 35:
        raise BadInput("bad_key", text[:_MAX_MULTIBASE])
    return _key(curve, raw[2:])


def key_of_did_key(did: str) -> PublicKey:
    """`did:key:z...`. Raises BadInput("bad_key")."""
    if not did.startswith("did:key:"):
        raise BadInput("bad_key", did[:_MAX_MULTIBASE])
    return key_of_multikey(did.removeprefix("did:key:"))


def _key_of(method: Mapping[str, Any]) -> PublicKey:
    kind, text = method.get("type"), method.get("publicKeyMultibase")
    if not isinstance(kind, str) or not isinstance(text, str):
        raise BadInput("bad_key", "type or publicKeyMultibase is no text")
    if kind == "Multikey":
        return key_of_multikey(text)
    if kind not in _LEGACY_TYPES:
        raise BadInput("bad_key", f"type {kind[:80]}")
    return _key(_LEGACY_TYPES[kind], _multibase(text))


def _multibase(text: str) -> bytes:
    if not text.startswith("z") or len(text) > _MAX_MULTIBASE:
        raise BadInput("bad_key", f"not base58btc: {text[:_MAX_MULTIBASE]}")
    try:
        return decode_multibase(text)[1]
    except ValueError as error:
        raise BadInput("bad_key", f"not base58btc: {text}") from error


def _key(curve: Curve, encoded_point: bytes) -> PublicKey:
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(_GROUPS[curve], encoded_point)
    except ValueError as error:
        raise BadInput("bad_key", f"not a point of {curve}: {encoded_point.hex()}") from error
    return PublicKey(curve, point.public_bytes(Encoding.X962, PublicFormat.CompressedPoint))


@lru_cache(maxsize=16_384)
def _verifier(key: PublicKey) -> Callable[[bytes, bytes], bool]:
    """(DER signature, message) -> bool, with the point unpacked once."""
    if key.curve == "k256" and coincurve is not None:
        return coincurve.PublicKey(key.point).verify
    return _openssl_verifier(key)


def _openssl_verifier(key: PublicKey) -> Callable[[bytes, bytes], bool]:
    public_key = ec.EllipticCurvePublicKey.from_encoded_point(_GROUPS[key.curve], key.point)
    algorithm = ec.ECDSA(SHA256())

    def is_signature(signature: bytes, message: bytes) -> bool:
        try:
            public_key.verify(signature, message, algorithm)
        except InvalidSignature:
            return False
        return True

    return is_signature
