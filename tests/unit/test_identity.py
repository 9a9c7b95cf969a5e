"""DID documents by the rules of the protocol, and a resolver that asks once, remembers, and says why not."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import identity
from common.did_documents import DidDocument, did_key, document_url, parse_document
from common.errors import BadInput, GiveUp, TryLater
from common.identity import Identities
from common.keys import key_of_did_key
from common.outbound import Outbound
from common.redis_connection import open_redis
from sluice.recording import Recording
from tests.directory import Directory, identities
from tests.samples import sample
from tests.waiting import until

VECTORS = Path(__file__).parents[1] / "data" / "vectors" / "identity"
DID = "did:plc:bx5qltwscyqlfyxdthtjdpnm"
MULTIKEY = "zQ3shdP9dcYW4uqeFvUVhRBZtguHbMhZJ5gCFMJ6qrhfVAey8"
KEY = key_of_did_key("did:key:" + MULTIKEY)


def document(**changes: Any) -> dict[str, Any]:
    return {
        "id": DID,
        "alsoKnownAs": ["at://alice.example.com"],
        "verificationMethod": [
            {"id": f"{DID}#atproto", "type": "Multikey", "controller": DID, "publicKeyMultibase": MULTIKEY}
        ],
        "service": [service()],
    } | changes


def service(**changes: Any) -> dict[str, Any]:
    return {
        "id": "#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": "https://pds.example.com",
    } | changes


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
    with pytest.raises(BadInput) as refusal:
        parse_document(DID, found)
    assert refusal.value.reason == "bad_did_document"


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
        (["at://" + "a" * 60 + ("." + "b" * 60) * 4 + ".test"], None),
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
        ([service(serviceEndpoint="https://" + "a" * 600)], None),
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
    with pytest.raises(GiveUp) as refusal:
        document_url(did, "https://plc.test")
    assert refusal.value.reason == "did_unsupported"


@pytest.mark.parametrize("did", ["", "did:plc:", "plc", "did:plc:a b", "did:PLC:aaa", "did:web:" + "a" * 3000])
def test_what_is_no_did_is_bad_input(did: str) -> None:
    with pytest.raises(BadInput) as refusal:
        document_url(did, "https://plc.test")
    assert refusal.value.reason == "bad_did"


@pytest.mark.parametrize("text", ["did:key:" + MULTIKEY, "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"])
def test_a_did_key_reads_back_as_it_was_written(text: str) -> None:
    assert did_key(key_of_did_key(text)) == text


async def test_an_answer_is_remembered() -> None:
    directory = Directory({DID: document()})
    async with identities(directory) as resolver:
        assert [await resolver.resolve(DID) for _ in range(3)] == [parse_document(DID, document())] * 3
    assert directory.requests[DID] == 1


async def test_many_who_ask_at_once_are_one_request() -> None:
    directory = Directory({DID: document()})
    directory.open.clear()
    async with identities(directory) as resolver, asyncio.TaskGroup() as group:
        tasks = [group.create_task(resolver.resolve(DID)) for _ in range(20)]
        await directory.asked.wait()
        directory.open.set()
    assert len({task.result() for task in tasks}) == 1
    assert directory.requests[DID] == 1


async def test_when_the_one_who_asks_is_cancelled_another_asks() -> None:
    directory = Directory({DID: document()})
    directory.open.clear()
    async with identities(directory) as resolver, asyncio.TaskGroup() as group:
        first, second = (group.create_task(resolver.resolve(DID)) for _ in range(2))
        await directory.asked.wait()
        first.cancel()
        directory.open.set()
    assert second.result().did == DID
    assert directory.requests[DID] == 2


async def test_what_is_forgotten_while_it_is_asked_for_is_asked_for_once_more() -> None:
    directory = Directory({DID: document()})
    directory.open.clear()
    async with identities(directory) as resolver, asyncio.TaskGroup() as group:
        asking = group.create_task(resolver.resolve(DID))
        await directory.asked.wait()
        await resolver.forget(DID)
        directory.open.set()
        assert (await asking).did == DID
        assert (await resolver.resolve(DID)).did == DID
    assert directory.requests[DID] == 2


async def test_a_refresh_asks_again_but_not_twice_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Directory({DID: document()})
    async with identities(directory) as resolver:
        await resolver.resolve(DID)
        await resolver.resolve(DID, refresh=True)
        assert directory.requests[DID] == 1
        monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
        directory.answers[DID] = document(service=[service(serviceEndpoint="https://moved.test")])
        assert (await resolver.resolve(DID)).pds == "https://pds.example.com"
        assert (await resolver.resolve(DID, refresh=True)).pds == "https://moved.test"
        assert (await resolver.resolve(DID)).pds == "https://moved.test"
    assert directory.requests[DID] == 2


@pytest.mark.parametrize(("status", "reason"), [(404, "did_not_found"), (410, "did_tombstoned")])
async def test_a_did_without_a_document_is_given_up_and_not_asked_for_again_at_once(status: int, reason: str) -> None:
    directory = Directory({DID: document()})
    directory.answers[DID] = status
    async with identities(directory) as resolver:
        for _ in range(3):
            with pytest.raises(GiveUp) as refusal:
                await resolver.resolve(DID)
            assert refusal.value.reason == reason
    assert directory.requests[DID] == 1


@pytest.mark.parametrize(("status", "reason"), [(500, "server_error"), (403, "server_error")])
async def test_any_other_failure_is_tried_later(status: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "FAILURE_KEPT_SECONDS", 0.0)
    directory = Directory({DID: document()})
    directory.answers[DID] = status
    async with identities(directory) as resolver:
        with pytest.raises(TryLater) as failure:
            await resolver.resolve(DID)
        assert failure.value.reason == reason
        directory.answers[DID] = document()
        assert (await resolver.resolve(DID)).pds


async def test_a_failure_is_told_to_all_who_wait_for_it() -> None:
    directory = Directory({DID: document()})
    directory.answers[DID] = 500
    async with identities(directory) as resolver:
        results = await asyncio.gather(*(resolver.resolve(DID) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(result, TryLater) for result in results)
    assert directory.requests[DID] == 1


async def test_the_directory_is_asked_a_few_questions_at_a_time() -> None:
    dids = [DID[:-2] + first + second for first in "abcdefg" for second in "abcdefg"]
    directory = Directory({DID: document()})
    directory.answers = {did: document(id=did) for did in dids}
    directory.open.clear()
    async with identities(directory) as resolver, asyncio.TaskGroup() as group:
        for did in dids:
            group.create_task(resolver.resolve(did))
        await until(lambda: directory.requests.total() >= 16)
        directory.open.set()
        assert directory.requests.total() == 16
    assert directory.requests.total() == len(dids)


async def test_a_directory_that_asks_for_a_rest_is_given_it_by_all() -> None:
    directory = Directory({DID: document()})
    directory.answers[DID] = 429
    async with identities(directory) as resolver:
        for did in (DID, DID[:-1] + "a", DID[:-1] + "b"):
            with pytest.raises(TryLater) as failure:
                await resolver.resolve(did)
            assert failure.value.reason == "rate_limited"
    assert directory.requests.total() == 1


async def test_a_huge_document_is_refused() -> None:
    directory = Directory({DID: document()})
    directory.answers[DID] = document(junk="a" * 70_000)
    async with identities(directory) as resolver:
        with pytest.raises(BadInput) as refusal:
            await resolver.resolve(DID)
    assert refusal.value.reason == "too_large"


async def test_no_more_is_remembered_than_there_is_room_for() -> None:
    dids = [DID[:-1] + letter for letter in "abc"]
    directory = Directory({DID: document()})
    directory.answers = {did: document(id=did) for did in dids}
    async with identities(directory, capacity=2) as resolver:
        for letter in "abacab":  # the one that was not asked for longest makes room
            await resolver.resolve(DID[:-1] + letter)
    assert [directory.requests[did] for did in dids] == [1, 2, 1]


async def test_a_did_web_on_a_port_or_in_a_private_network_is_not_asked() -> None:
    async with Outbound() as outbound:
        resolver = Identities(outbound, "https://plc.directory")
        for did, reason in (
            ("did:web:localhost%3A8080", "forbidden_url"),
            ("did:web:127.0.0.1", "forbidden_address"),
            ("did:web:localhost", "forbidden_url"),
        ):
            with pytest.raises(BadInput) as refusal:
                await resolver.resolve(did)
            assert refusal.value.reason == reason


def lookups() -> dict[str, float]:
    name, results = "sluice_identity_lookups_total", ("memory", "shared", "network", "failed")
    return {result: sample(name, result=result) for result in results}


async def test_a_shared_cache_that_is_away_is_as_if_it_were_empty() -> None:
    before = lookups()
    async with (
        open_redis("redis://127.0.0.1:1") as nowhere,
        identities(Directory({DID: document()}), shared=nowhere) as resolver,
    ):
        assert (await resolver.resolve(DID)).signing_key == KEY
        await resolver.resolve(DID)
    assert {result: now - before[result] for result, now in lookups().items()} == {
        **{"network": 1, "memory": 1},
        **{"shared": 0, "failed": 0},
    }
