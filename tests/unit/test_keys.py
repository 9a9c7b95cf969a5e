"""Keys out of DID documents, and what counts as a signature."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import PublicFormat
from libipld import decode_multibase, encode_multibase

from common import keys
from common.keys import Curve, PublicKey, key_in_document, key_of_did_key, key_of_multikey, verify
from tests.refusals import refusal
from tests.signed_repos import DID, ORDERS, Signer

DATA = Path(__file__).parents[1] / "data"
CRYPTO = DATA / "vectors" / "atproto-interop" / "crypto"
SIGNATURES = json.loads((CRYPTO / "signature-fixtures.json").read_text())
MESSAGE = b"what was signed"
CODECS: dict[Curve, bytes] = {"k256": b"\xe7\x01", "p256": b"\x80\x24"}
LEGACY: dict[Curve, str] = {
    "k256": "EcdsaSecp256k1VerificationKey2019",
    "p256": "EcdsaSecp256r1VerificationKey2019",
}
UNCOMPRESSED = Signer().point(PublicFormat.UncompressedPoint)
both_curves = pytest.mark.parametrize("curve", ["k256", "p256"])


def base58(raw: bytes) -> str:
    return encode_multibase("z", raw)


def method(**changes: Any) -> dict[str, Any]:
    right = {"id": "#atproto", "type": "Multikey", "controller": DID, "publicKeyMultibase": multikey(Signer().public)}
    return right | changes


def multikey(key: PublicKey) -> str:
    return base58(CODECS[key.curve] + key.point)


def document(*methods: object) -> dict[str, Any]:
    return {"id": DID, "verificationMethod": list(methods)}


@pytest.fixture(params=["libsecp256k1", "openssl"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to check k256: the second is what runs where coincurve has no wheel."""
    keys._verifier.cache_clear()
    if request.param == "openssl":
        monkeypatch.setattr(keys, "coincurve", None)
    return str(request.param)


# signatures


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("fixture", SIGNATURES, ids=lambda fixture: fixture["comment"])
def test_the_signature_fixtures_agree(fixture: dict[str, Any]) -> None:
    key = key_of_did_key(fixture["publicKeyDid"])
    message, signature = (b64decode(fixture[name] + "==") for name in ("messageBase64", "signatureBase64"))
    legacy = method(type=fixture["didDocSuite"], publicKeyMultibase=fixture["publicKeyMultibase"])
    assert key_in_document(document(legacy), DID) == key
    assert verify(key, message, signature) is fixture["validSignature"]


@pytest.mark.usefixtures("backend")
@both_curves
def test_a_signature_is_good_for_one_message_and_one_key(curve: Curve) -> None:
    signer, other = Signer(curve), Signer(curve, 8)
    signature = signer.sign(MESSAGE)
    assert verify(signer.public, MESSAGE, signature)
    assert not verify(signer.public, MESSAGE + b"!", signature)
    assert not verify(other.public, MESSAGE, signature)


@pytest.mark.usefixtures("backend")
@both_curves
def test_any_changed_bit_spoils_a_signature(curve: Curve) -> None:
    signer = Signer(curve)
    signature = signer.sign(MESSAGE)
    for at in range(64):
        changed = signature[:at] + bytes((signature[at] ^ 1,)) + signature[at + 1 :]
        assert not verify(signer.public, MESSAGE, changed)


@pytest.mark.usefixtures("backend")
@both_curves
def test_numbers_out_of_range_are_no_signature(curve: Curve) -> None:
    signer, order = Signer(curve), ORDERS[curve]
    signature = signer.sign(MESSAGE)
    r, s = signature[:32], signature[32:]
    high_s = (order - int.from_bytes(s, "big")).to_bytes(32, "big")
    extremes = [number.to_bytes(32, "big") for number in (0, order, order - 1, 2**256 - 1)]
    wrong = [r + high_s, *(r + x for x in extremes), *(x + s for x in extremes), bytes(64), b"\xff" * 64]
    assert not any(verify(signer.public, MESSAGE, signature) for signature in wrong)


@pytest.mark.usefixtures("backend")
@both_curves
def test_only_64_bytes_are_a_signature(curve: Curve) -> None:
    signer = Signer(curve)
    signature = signer.sign(MESSAGE)
    for wrong in (b"", signature[:-1], signature + b"\x00", b"\x00" + signature, signer.sign_der(MESSAGE)):
        assert not verify(signer.public, MESSAGE, wrong)


# how keys are written


@pytest.mark.parametrize("name", ["w3c_didkey_K256", "w3c_didkey_P256"])
def test_a_did_key_is_the_key_of_its_secret(name: str) -> None:
    curve: Curve = "k256" if name.endswith("K256") else "p256"
    for case in json.loads((CRYPTO / f"{name}.json").read_text()):
        base58_secret = case.get("privateKeyBytesBase58")
        secret = (
            decode_multibase(f"z{base58_secret}")[1] if base58_secret else bytes.fromhex(case["privateKeyBytesHex"])
        )
        key = key_of_did_key(case["publicDidKey"])
        assert key == Signer(curve, int.from_bytes(secret, "big")).public
        assert case["publicDidKey"] == f"did:key:{multikey(key)}"


@both_curves
def test_all_ways_to_write_a_key_give_the_same_key(curve: Curve) -> None:
    signer = Signer(curve)
    methods = [
        method(publicKeyMultibase=multikey(signer.public)),
        method(type=LEGACY[curve], publicKeyMultibase=base58(signer.point(PublicFormat.CompressedPoint))),
        method(type=LEGACY[curve], publicKeyMultibase=base58(signer.point(PublicFormat.UncompressedPoint))),
    ]
    assert {key_in_document(document(one), DID) for one in methods} == {signer.public}


def test_every_recorded_document_has_a_key() -> None:
    for did, found in json.loads((DATA / "cars" / "dids.json").read_text()).items():
        assert key_in_document(found, did).curve == "k256"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "z",
        "zzz0OIl",
        encode_multibase("u", CODECS["k256"] + Signer().public.point),
        base58(b"\xed\x01" + bytes(32)),
        base58(CODECS["k256"] + bytes(33)),
        base58(CODECS["k256"] + b"\x02" + b"\xff" * 32),
        base58(CODECS["k256"] + UNCOMPRESSED),
        base58(CODECS["p256"] + Signer("k256").public.point[:-1]),
        base58(Signer().public.point),
        "z" + "1" * 1_000_000,
        "zé",
    ],
)
def test_what_is_no_multikey_is_refused(text: str) -> None:
    assert refusal(key_of_multikey, text) == "bad_key"
    assert refusal(key_of_did_key, f"did:key:{text}") == "bad_key"


def test_a_did_of_another_method_is_no_key() -> None:
    assert refusal(key_of_did_key, DID) == "bad_key"
    assert refusal(key_of_did_key, multikey(Signer().public)) == "bad_key"


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Ed25519VerificationKey2020"},
        {"type": None},
        {"publicKeyMultibase": None},
        {"publicKeyMultibase": "z"},
        {"type": LEGACY["k256"]},
        {"type": LEGACY["k256"], "publicKeyMultibase": base58(b"\x06" + UNCOMPRESSED[1:])},
        {"type": LEGACY["p256"], "publicKeyMultibase": base58(b"\x00")},
    ],
)
def test_an_unusable_verification_method_is_refused(changes: dict[str, Any]) -> None:
    assert refusal(key_in_document, document(method(**changes)), DID) == "bad_key"


# which of the keys of a document


def test_the_first_method_with_the_id_and_the_controller_counts() -> None:
    first, second = Signer(number=11).public, Signer(number=12).public
    labels = Signer(number=13).public
    found = document(
        method(id="#other"),
        method(controller="did:plc:somebodyelsesomebodyel"),
        method(id=f"{DID}#atproto", publicKeyMultibase=multikey(first)),
        method(publicKeyMultibase=multikey(second)),
        method(id="#atproto_label", publicKeyMultibase=multikey(labels)),
    )
    assert key_in_document(found, DID) == first
    assert key_in_document(found, DID, "#atproto_label") == labels


@pytest.mark.parametrize(
    "found",
    [
        {},
        document(),
        document(None, 1, "text", []),
        document(method(id="atproto")),
        document(method(id="did:plc:somebodyelsesomebodyel#atproto")),
        document(method(controller=None)),
        {"verificationMethod": None},
        {"verificationMethod": 5},
        {"verificationMethod": {"id": "#atproto"}},
    ],
)
def test_a_document_without_the_method_has_no_key(found: dict[str, Any]) -> None:
    assert refusal(key_in_document, found, DID) == "no_key"


def test_keys_are_values() -> None:
    a, b = Signer(number=5).public, Signer(number=5).public
    assert a == b
    assert len({a, b, Signer("p256", 5).public}) == 2
