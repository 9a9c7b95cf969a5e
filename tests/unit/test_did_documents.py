"""DIDs and their documents: where a document is, and what is read of one, whatever stands beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.did_documents import DidDocument, did_key, document_url, is_resolvable, parse_document
from common.errors import BadInput, GiveUp
from common.keys import key_of_did_key
from sluice.recording import Recording
from tests.directory import DID, KEY, MULTIKEY, document, service
from tests.refusals import refused

LONGEST = ".".join(["a" * 62] * 3 + ["b" * 59, "test"])  # 253 characters
VECTORS = Path(__file__).parents[1] / "data" / "vectors" / "identity"


def test_a_document_says_where_the_repo_is_and_who_signs_it() -> None:
    assert parse_document(DID, document()) == DidDocument(
        DID, pds="https://pds.example.com", signing_key=KEY, handle="alice.example.com"
    )


@pytest.mark.parametrize("name", ["full", "load-tiny"])
def test_every_document_of_a_real_directory_is_read_whole(name: str, recording: Callable[[str], Recording]) -> None:
    for did, found in recording(name).dids.items():
        parsed = parse_document(did, found)
        assert parsed.pds
        assert parsed.signing_key
        assert parsed.handle == found["alsoKnownAs"][0].removeprefix("at://")
    labelers = [parse_document(did, found) for did, found in recording("full").dids.items()]
    assert any(parsed.labeler and parsed.label_key for parsed in labelers)


@pytest.mark.parametrize(
    ("name", "curve", "handle", "pds"),
    [
        ("did_plc_doc", "k256", "atproto.com", "https://bsky.social"),
        ("did_plc_doc_legacy", "k256", "atproto.com", "https://bsky.social"),
        ("did_web_doc", None, None, None),
        ("did_plc_z5vnbioquyhivxirw3bbljmu.didDoc", "k256", "koch5149-c5.test", "http://localhost:2583"),
        ("fakermaker.didDoc", "p256", "ebert9014-89.test", "http://localhost:2583"),
        ("greenground.didDoc", "k256", "greenground.bsky.social", "https://bsky.social"),
        ("paul_staging.didDoc", "k256", "paul.staging.bsky.dev", "https://pds.staging.bsky.dev"),
    ],
)
def test_documents_of_other_software_are_read(
    name: str, curve: str | None, handle: str | None, pds: str | None
) -> None:
    found = json.loads((VECTORS / f"{name}.json").read_text())
    parsed = parse_document(found["id"], found)
    assert (parsed.signing_key and parsed.signing_key.curve, parsed.handle, parsed.pds) == (curve, handle, pds)


@pytest.mark.parametrize("found", [None, [], "text", {}, {"id": 1}, {"id": DID + "x"}, {"id": DID.upper()}])
def test_the_document_of_another_did_is_refused(found: Any) -> None:
    with refused(BadInput, "bad_did_document"):
        parse_document(DID, found)


@pytest.mark.parametrize("field", ["alsoKnownAs", "verificationMethod", "service"])
@pytest.mark.parametrize("value", [None, 1, "text", {}, [], [None], [1], [[]], ["text"], [{}], [{"id": []}]])
def test_a_field_of_any_shape_leaves_the_others_readable(field: str, value: Any) -> None:
    parsed = parse_document(DID, document(**{field: value}))
    assert (parsed.handle is None) == (field == "alsoKnownAs")
    assert (parsed.signing_key is None) == (field == "verificationMethod")
    assert (parsed.pds is None) == (field == "service")


@pytest.mark.parametrize(
    ("names", "handle"),
    [
        (["at://Alice.Example.COM"], "alice.example.com"),
        (["https://alice.example.com", "at://bob.test", "at://carol.test"], "bob.test"),
        (["at://not a handle", "at://bob.test"], "bob.test"),
        (["at://nodots", "at://1.2.3.4", "at://-a.test", "at://a..test", "at://a.test/x"], None),
        (["at://" + LONGEST], LONGEST),
        (["at://a" + LONGEST], None),
        (["alice.test"], None),
    ],
)
def test_the_handle_is_the_first_valid_one(names: list[str], handle: str | None) -> None:
    assert parse_document(DID, document(alsoKnownAs=names)).handle == handle


@pytest.mark.parametrize(
    ("services", "pds"),
    [
        ([service(id=f"{DID}#atproto_pds")], "https://pds.example.com"),
        ([service(serviceEndpoint="https://pds.example.com/")], "https://pds.example.com"),
        ([service(serviceEndpoint="https://PDS.Example.com.:443/")], "https://pds.example.com"),
        ([service(serviceEndpoint="http://pds.example.com.:443")], "http://pds.example.com:443"),
        ([service(serviceEndpoint="https://.")], None),
        ([service(serviceEndpoint="http://localhost:2583")], "http://localhost:2583"),
        ([service(type="Other"), service(serviceEndpoint="https://b.test")], "https://b.test"),
        ([service(), service(serviceEndpoint="https://b.test")], "https://pds.example.com"),
        ([service(id="#other")], None),
        ([service(id="did:plc:other#atproto_pds")], None),
        ([service(serviceEndpoint="https://pds.example.com/path")], None),
        ([service(serviceEndpoint="https://pds.example.com?x=1")], None),
        ([service(serviceEndpoint="https://pds.example.com/#x")], None),
        ([service(serviceEndpoint="https://user@pds.example.com")], None),
        ([service(serviceEndpoint="ftp://pds.example.com")], None),
        ([service(serviceEndpoint="pds.example.com")], None),
        ([service(serviceEndpoint="https://[")], None),
        ([service(serviceEndpoint="https://" + "a" * 504)], "https://" + "a" * 504),
        ([service(serviceEndpoint="https://" + "a" * 505)], None),
        ([service(serviceEndpoint={"uri": "https://pds.example.com"})], None),
    ],
)
def test_the_pds_is_a_base_url_of_the_first_fitting_service(services: list[Any], pds: str | None) -> None:
    assert parse_document(DID, document(service=services)).pds == pds


@pytest.mark.parametrize(
    ("did", "url"),
    [
        (DID, f"https://plc.test/{DID}"),
        ("did:web:example.com", "https://example.com/.well-known/did.json"),
        ("did:web:localhost%3A2583", "http://localhost:2583/.well-known/did.json"),
    ],
)
def test_a_did_says_where_its_document_is(did: str, url: str) -> None:
    assert document_url(did, "https://plc.test/") == url
    assert is_resolvable(did)


@pytest.mark.parametrize(
    "did",
    [
        *("did:plc:short", DID + "a", DID.replace("bx5", "bx1"), DID.replace("bx5", "BX5")),
        *(
            "did:web:example.com:path",
            "did:web:a%2Fb",
            "did:web:a%40b",
            "did:web:-.example..com",
            "did:key:" + MULTIKEY,
        ),
    ],
)
def test_a_did_that_the_network_does_not_use_is_given_up(did: str) -> None:
    with refused(GiveUp, "did_unsupported"):
        document_url(did, "https://plc.test")
    assert not is_resolvable(did)


@pytest.mark.parametrize("did", ["", "did:plc:", "plc", "did:plc:a b", "did:PLC:aaa", "did:web:" + "a" * 3000])
def test_what_is_no_did_is_bad_input(did: str) -> None:
    with refused(BadInput, "bad_did"):
        document_url(did, "https://plc.test")
    assert not is_resolvable(did)


@pytest.mark.parametrize("text", ["did:key:" + MULTIKEY, "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"])
def test_a_did_key_reads_back_as_it_was_written(text: str) -> None:
    assert did_key(key_of_did_key(text)) == text
