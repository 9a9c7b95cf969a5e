"""Keys while the directory is well, away, or out of sorts with one DID; and hosts of did:web that do not answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common import identity
from ingester import signing_keys
from ingester.accounts import FIREHOSE, Account
from ingester.frame_reader import KeyAnswer
from ingester.signing_keys import Patience, SigningKeys
from tests.directory import Directory, identities
from tests.labelers import document
from tests.signed_repos import DID, Signer
from tests.waiting import until

OTHER = DID[:-1] + "f"
OLD, NEW = Signer(number=5), Signer(number=6)


def account(signer: Signer, did: str = DID) -> dict[str, Any]:
    return document(signer, did, key="#atproto")


@asynccontextmanager
async def keys(directory: Directory) -> AsyncIterator[SigningKeys]:
    async with identities(directory) as known, SigningKeys(known, Account(FIREHOSE)) as found:
        yield found


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_keys, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(signing_keys, "LONGEST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(identity, "FAILURE_KEPT_SECONDS", 0.0)


async def test_a_key_is_asked_for_once_however_many_want_it() -> None:
    directory = Directory({DID: account(OLD)})
    async with keys(directory) as known:
        answers = await asyncio.gather(*(known.answer(DID) for _ in range(50)))
    assert set(answers) == {KeyAnswer(DID, OLD.public, reason="no_key")}
    assert directory.requests[DID] == 1


async def test_a_key_that_does_not_fit_is_asked_for_again_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
    directory = Directory({DID: account(OLD)})
    async with keys(directory) as known:
        await known.answer(DID)
        directory.answers[DID] = account(NEW)
        assert (await known.answer(DID)).key == OLD.public
        newest = await known.answer(DID, OLD.public)
        assert (newest.key, newest.is_newest) == (NEW.public, True)
        assert await known.answer(DID, OLD.public) == KeyAnswer(DID, NEW.public, reason="no_key")
    assert directory.requests[DID] == 2


async def test_a_flood_of_wrong_signatures_asks_once_in_a_while() -> None:
    directory = Directory({DID: account(OLD)})
    async with keys(directory) as known:
        for _ in range(20):
            assert (await known.answer(DID, OLD.public)).is_newest
    assert directory.requests[DID] == 1


async def test_an_identity_event_makes_the_next_answer_a_new_one() -> None:
    directory = Directory({DID: account(OLD)})
    async with keys(directory) as known:
        await known.answer(DID)
        directory.answers[DID] = account(NEW)
        await known.forget(DID)
        assert (await known.answer(DID)).key == NEW.public


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (404, "no_did_document"),
        (410, "no_such_account"),
        ({"id": OTHER}, "no_did_document"),
        ({"id": DID}, "no_key"),
    ],
)
async def test_an_account_without_a_key_has_a_reason(found: Any, reason: str) -> None:
    async with keys(Directory({DID: found})) as known:
        answer = await known.answer(DID)
    assert (answer.key, answer.reason) == (None, reason)


async def test_a_method_that_the_network_does_not_use_is_no_account() -> None:
    async with keys(Directory({})) as known:
        assert (await known.answer("did:example:alice")).reason == "no_such_account"


async def test_a_directory_that_is_away_is_waited_for() -> None:
    directory = Directory({DID: 500, OTHER: 500})
    async with keys(directory) as known:
        waiting = asyncio.create_task(known.answer(DID))
        await until(lambda: directory.requests[DID] > 2 * signing_keys.TRIES_WHILE_OTHERS_SUCCEED)
        assert not waiting.done()
        directory.answers[DID] = account(OLD)
        assert (await waiting).key == OLD.public


async def test_a_directory_that_comes_back_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer for somebody else may be the first after it was away."""
    monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)

    class Answers(dict[str, Any]):
        def get(self, did: str, default: Any = None) -> Any:
            if did == OTHER and DID in directory.requests:
                self[DID] = account(OLD)
            return super().get(did, default)

    directory = Directory(Answers({DID: 500, OTHER: account(NEW, OTHER)}))
    async with keys(directory) as known:
        await known.answer(OTHER)
        assert (await known.answer(DID)).key == OLD.public


async def test_a_directory_that_has_gone_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
    directory = Directory({DID: 500, OTHER: account(NEW, OTHER)})
    async with keys(directory) as known:
        await known.answer(OTHER)
        directory.answers[OTHER] = 500
        waiting = asyncio.create_task(known.answer(DID))
        await until(lambda: directory.requests[OTHER] > 3)
        assert not waiting.done()
        directory.answers[DID] = account(OLD)
        assert (await waiting).key == OLD.public


async def test_a_did_that_the_directory_has_trouble_with_is_given_up_while_it_answers_for_others() -> None:
    directory = Directory({DID: 500, OTHER: account(NEW, OTHER)})
    async with keys(directory) as known:
        await known.answer(OTHER)
        assert (await known.answer(DID)).reason == "no_did_document"
    assert directory.requests[DID] > signing_keys.TRIES_WHILE_OTHERS_SUCCEED


async def test_a_wrong_signature_is_not_waited_with(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Directory({DID: account(OLD)})
    async with keys(directory) as known:
        await known.answer(DID)
        directory.answers[DID] = 500
        monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
        assert (await known.answer(DID, OLD.public)).reason == "bad_signature"
        assert (await known.answer(DID)).key == OLD.public


async def test_an_aging_document_is_served_and_refreshed_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "AGING_SECONDS", 0.0)
    monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
    directory = Directory({DID: account(OLD)})
    async with keys(directory) as known:
        await known.answer(DID)
        directory.answers[DID] = account(NEW)
        assert (await known.answer(DID)).key == OLD.public
        await until(lambda: directory.requests[DID] > 1)

        async def is_new() -> bool:
            return (await known.answer(DID)).key == NEW.public

        await until(is_new)


async def test_a_document_outlives_its_day_while_the_directory_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "KEPT_SECONDS", 0.0)
    directory = Directory({DID: account(OLD)})
    async with keys(directory) as known:
        await known.answer(DID)
        directory.answers[DID] = 500
        assert (await known.answer(DID)).key == OLD.public
    assert directory.requests[DID] > 1


async def test_a_host_is_waited_for_a_moment_and_its_answer_serves_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_keys, "HOST_SECONDS", 0.05)
    directory = Directory({})
    async with keys(directory) as known:
        directory.answers["did.json"] = account(OLD, directory.did)
        directory.open.clear()
        assert (await known.answer(directory.did)).reason == "no_did_document"
        assert (await known.answer(directory.did)).reason == "no_did_document"
        directory.open.set()

        async def is_there() -> bool:
            return (await known.answer(directory.did)).key == OLD.public

        await until(is_there)
    assert directory.requests["did.json"] == 1


async def test_a_host_that_fails_is_left_alone_for_a_while() -> None:
    directory = Directory({"did.json": 500})
    async with keys(directory) as known:
        for _ in range(5):
            assert (await known.answer(directory.did)).reason == "no_did_document"
        assert directory.requests["did.json"] == 1
        directory.answers["did.json"] = account(OLD, directory.did)
        await known.forget(directory.did)
        assert (await known.answer(directory.did)).key == OLD.public


async def test_a_host_is_asked_for_a_newer_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
    directory = Directory({})
    async with keys(directory) as known:
        directory.answers["did.json"] = account(OLD, directory.did)
        assert (await known.answer(directory.did)).key == OLD.public
        directory.answers["did.json"] = account(NEW, directory.did)
        newest = await known.answer(directory.did, OLD.public)
    assert (newest.key, newest.is_newest) == (NEW.public, True)


def test_all_hosts_together_are_waited_for_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(signing_keys.time, "monotonic", lambda: now)
    patience = Patience(most=6.0, share=0.1)
    assert [patience.take(2.0) for _ in range(4)] == [2.0, 2.0, 2.0, 0.0]
    now = 110.0
    assert patience.take(2.0) == pytest.approx(1.0)
    patience.give_back(0.5)
    assert patience.take(2.0) == pytest.approx(0.5)
