"""Labelers made here: their DID documents, and frames of labels that they have signed, or have not."""

from typing import Any

from common.dag_cbor import encode
from common.did_documents import did_key
from tests.signed_repos import Signer

LABELER, ACCOUNT = "did:plc:labelerlabelerlabelerlab", "did:plc:accountaccountaccountacc"
POST = f"at://{ACCOUNT}/app.bsky.feed.post/3k"
CTS = "2026-11-20T22:34:24.7Z"
HOST = "labels.example.com"
Json = dict[str, Any]


def document(
    signer: Signer, did: str = LABELER, endpoint: str = f"https://{HOST}", key: str = "#atproto_label"
) -> Json:
    """Of a labeler at this endpoint who signs with this key."""
    multikey = did_key(signer.public).removeprefix("did:key:")
    method = {"id": did + key, "type": "Multikey", "controller": did, "publicKeyMultibase": multikey}
    service = {"id": "#atproto_labeler", "type": "AtprotoLabeler", "serviceEndpoint": endpoint}
    return {"id": did, "verificationMethod": [method], "service": [service]}


def label(**changes: Any) -> Json:
    """Without a signature."""
    return {"ver": 1, "src": LABELER, "uri": POST, "val": "spam", "cts": CTS} | changes


def signed(signer: Signer, **changes: Any) -> Json:
    fields = label(**changes)
    return fields | {"sig": signer.sign(encode(fields))}


def frame(*labels: Any, seq: int = 7, **body: Any) -> bytes:
    return encode({"op": 1, "t": "#labels"}) + encode({"seq": seq, "labels": list(labels)} | body)
