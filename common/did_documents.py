"""A DID document: what it says that we use, and where it is to be had (specs: did, did-method-plc, did-method-web)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from libipld import encode_multibase
from yarl import URL

from common.errors import BadInput, GiveUp
from common.keys import PublicKey, key_in_document
from common.public_addresses import host_name
from common.syntax import is_did

_PLC = re.compile(r"did:plc:[a-z2-7]{24}")
_WEB = re.compile(r"did:web:([a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*)(?:%3A([0-9]{1,5}))?")
_HANDLE = re.compile(r"([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")


@dataclass(frozen=True, slots=True)
class DidDocument:
    """What a DID document says that we use; None where it says nothing usable.

    `pds` and `labeler` are base URLs without a path. `handle` is a claim, to be verified in the other direction.
    """

    did: str
    pds: str | None = None
    signing_key: PublicKey | None = None
    handle: str | None = None
    labeler: str | None = None
    label_key: PublicKey | None = None


def parse_document(did: str, document: Any) -> DidDocument:
    """`document` is untrusted JSON. Raises BadInput("bad_did_document") unless it is this DID's."""
    if not isinstance(document, dict) or document.get("id") != did:
        raise BadInput("bad_did_document", f"not the document of {did}")
    return DidDocument(
        did,
        pds=_endpoint(document, did, "#atproto_pds", "AtprotoPersonalDataServer"),
        signing_key=_key(document, did, "#atproto"),
        handle=next(_handles(document), None),
        labeler=_endpoint(document, did, "#atproto_labeler", "AtprotoLabeler"),
        label_key=_key(document, did, "#atproto_label"),
    )


def document_url(did: str, plc_url: str) -> str:
    """Raises BadInput("bad_did"), or GiveUp("did_unsupported") for methods the network does not use."""
    if not is_did(did):
        raise BadInput("bad_did", did[:80])
    if _PLC.fullmatch(did):
        return f"{plc_url.rstrip('/')}/{did}"
    if web := _WEB.fullmatch(did):
        host, port = web.groups()
        # a port is for development: only the operator's allow list lets it through
        return f"http://{host}:{port}/.well-known/did.json" if port else f"https://{host}/.well-known/did.json"
    raise GiveUp("did_unsupported", did[:80])


def is_resolvable(did: str) -> bool:
    """Whether it is a DID of a method that the network uses."""
    return is_did(did) and (_PLC.fullmatch(did) or _WEB.fullmatch(did)) is not None


def did_key(key: PublicKey) -> str:
    """`did:key:z...`, the inverse of key_of_did_key."""
    codec = b"\xe7\x01" if key.curve == "k256" else b"\x80\x24"
    return "did:key:" + encode_multibase("z", codec + key.point)


def _endpoint(document: Mapping[str, Any], did: str, fragment: str, kind: str) -> str | None:
    services = document.get("service")
    for service in services if isinstance(services, list) else ():
        if not isinstance(service, dict) or service.get("id") not in (fragment, did + fragment):
            continue
        if service.get("type") == kind:
            return base_url(service.get("serviceEndpoint"))
    return None


def base_url(text: Any) -> str | None:
    """Scheme, host and the port if it is not the usual one, in one spelling; or None.

    Whether it may be asked is for common.outbound to say.
    """
    if not isinstance(text, str) or len(text) > 512:
        return None
    try:
        url = URL(text)
        if url.scheme not in ("http", "https") or not url.host or url != url.origin() / "":
            return None
        return str(url.origin().with_host(host_name(url.host)))
    except ValueError:
        return None


def _key(document: Mapping[str, Any], did: str, fragment: str) -> PublicKey | None:
    try:
        return key_in_document(document, did, fragment)
    except BadInput:
        return None


def _handles(document: Mapping[str, Any]) -> Iterator[str]:
    names = document.get("alsoKnownAs")
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and name.startswith("at://") and len(name) <= 258 and _HANDLE.fullmatch(name[5:]):
            yield name[5:].lower()
