"""Identities: asked for once by whoever wants them, remembered for a while, and no directory is asked too much."""

import asyncio

import pytest

from common import identity
from common.did_documents import parse_document
from common.errors import BadInput, GiveUp, TryLater
from common.identity import Identities
from common.outbound import Outbound
from common.redis_connection import open_redis
from tests.directory import DID, KEY, Directory, document, identities, service
from tests.refusals import refused
from tests.samples import sample
from tests.waiting import until


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


async def test_what_is_forgotten_while_it_is_asked_for_is_asked_for_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
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
        monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
        await resolver.resolve(DID, refresh=True)
    assert directory.requests[DID] == 3


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
            with refused(GiveUp, reason):
                await resolver.resolve(DID)
    assert directory.requests[DID] == 1


@pytest.mark.parametrize(("status", "reason"), [(500, "server_error"), (403, "server_error")])
async def test_any_other_failure_is_tried_later(status: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "FAILURE_KEPT_SECONDS", 0.0)
    directory = Directory({DID: document()})
    directory.answers[DID] = status
    async with identities(directory) as resolver:
        with refused(TryLater, reason):
            await resolver.resolve(DID)
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
            with refused(TryLater, "rate_limited"):
                await resolver.resolve(did)
    assert directory.requests.total() == 1


async def test_a_huge_document_is_refused() -> None:
    directory = Directory({DID: document()})
    directory.answers[DID] = document(junk="a" * 70_000)
    async with identities(directory) as resolver:
        with refused(BadInput, "too_large"):
            await resolver.resolve(DID)


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
            with refused(BadInput, reason):
                await resolver.resolve(did)


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
