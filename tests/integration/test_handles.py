"""Handles: looked up off the way of the events, and stored only if they lead back to who claims them."""

import asyncio
from collections import Counter

import asyncpg
import pytest

from common.identity import Identities
from common.outbound import Outbound
from indexer import handles
from indexer.database import Database
from indexer.due import Check, DueChecks
from indexer.handle_resolver import HandleResolver
from indexer.handles import HandleLookup
from tests import factories as make
from tests.factories import ALICE, BOB, POST, moment, snapshot
from tests.indexing import Index
from tests.people import Directory, Look, checks, people
from tests.samples import moved
from tests.waiting import until

HOUR = 3600.0


async def test_a_handle_that_leads_back_is_stored_in_lower_case(index: Index, directory: Directory, look: Look) -> None:
    directory.person(ALICE, "Alice.Test")
    await index.apply(make.create(ALICE, "a", make.post(), 5))
    await look()
    assert await index.rows("actor", "did", "handle", "indexedAt") == [(ALICE, "alice.test", moment(5))]
    assert await checks(index) == []


@pytest.mark.parametrize("claim", ["it leads to somebody else", "it leads nowhere", "it is no handle", "there is none"])
async def test_a_handle_that_does_not_lead_back_is_not_stored(
    claim: str, index: Index, directory: Directory, look: Look
) -> None:
    directory.person(ALICE, {"it is no handle": "not a handle", "there is none": ""}.get(claim, "alice.test"))
    if claim == "it leads to somebody else":
        directory.handles["alice.test"] = BOB
    elif claim == "it leads nowhere":
        del directory.handles["alice.test"]
    await index.apply(make.create(ALICE, "a", make.post(), 1))
    await look()
    assert await people(index) == {ALICE: (None, None)}
    assert await checks(index) == []


async def test_a_handle_that_moved_is_taken_from_its_former_holder(
    index: Index, directory: Directory, look: Look
) -> None:
    directory.person(ALICE, "contested.test")
    await index.apply(make.identity(ALICE, 1))
    await look()
    directory.person(BOB, "contested.test")
    await index.apply(make.identity(BOB, 2))
    await look()
    assert await people(index) == {ALICE: (None, None), BOB: ("contested.test", None)}
    await index.apply(make.identity(ALICE, 3))
    await look()
    assert await people(index) == {ALICE: (None, None), BOB: ("contested.test", None)}


async def test_two_who_swap_their_handles_both_get_them(index: Index, directory: Directory, look: Look) -> None:
    directory.person(ALICE, "one.test")
    directory.person(BOB, "two.test")
    await index.apply(make.identity(ALICE, 1), make.identity(BOB, 1))
    await look()
    directory.person(ALICE, "two.test")
    directory.person(BOB, "one.test")
    await index.apply(make.identity(ALICE, 2), make.identity(BOB, 2))
    await look()
    assert await people(index) == {ALICE: ("two.test", None), BOB: ("one.test", None)}


async def test_a_look_counts_once_what_it_found_is_written(index: Index, directory: Directory) -> None:
    directory.person(ALICE, "alice.test")
    await index.apply(make.identity(ALICE, 1))
    async with asyncpg.create_pool(index.url, min_size=0) as closed:
        pass
    verified = moved("indexer_account_tasks_total", kind="handle", result="verified")
    async with Outbound(allow=[directory.origin]) as outbound:
        identities, resolver = Identities(outbound, directory.url), HandleResolver(outbound, directory.url)
        with pytest.raises(asyncpg.InterfaceError):
            await HandleLookup(Database(closed, "bsky"), identities, resolver).look(Check(ALICE, moment(1), 0))
        assert verified() == 0
        await HandleLookup(index.database, identities, resolver).look(Check(ALICE, moment(1), 0))
    assert verified() == 1


@pytest.mark.parametrize("refused", [ALICE, "resolveHandle"])
async def test_when_nobody_can_be_asked_the_look_is_postponed_and_the_old_handle_stays(
    refused: str, index: Index, directory: Directory, look: Look
) -> None:
    directory.person(ALICE, "alice.test")
    await index.apply(make.identity(ALICE, 1))
    await look()
    directory.refusals[refused] = (500, "InternalServerError")
    await index.apply(make.identity(ALICE, 2))
    await look()
    assert await people(index) == {ALICE: ("alice.test", None)}
    assert await checks(index) == [(ALICE, moment(2), 1)]


async def test_who_has_no_document_keeps_a_row_and_is_looked_up_again_later(index: Index, look: Look) -> None:
    await index.apply(make.identity(ALICE, 1))
    await look()
    assert await people(index) == {ALICE: (None, None)}
    assert await checks(index) == [(ALICE, moment(1), 1)]


async def test_an_identity_event_calls_for_a_look_and_its_replay_does_not(
    index: Index, directory: Directory, look: Look
) -> None:
    directory.person(ALICE, "alice.test")
    await index.apply(make.identity(ALICE, 5))
    await look()
    await index.apply(make.identity(ALICE, 5))
    await index.apply(make.identity(ALICE, 4))
    assert await checks(index) == []
    await index.apply(make.identity(ALICE, 6))
    assert await checks(index) == [(ALICE, moment(6), 0)]


@pytest.mark.parametrize(
    ("handle", "then", "is_due"),
    [
        ("alice.test", "2025-03-02T12:00:00.000Z", False),
        ("alice.test", "2025-03-02T12:00:00.001Z", True),
        ("", "2025-03-01T13:00:00.000Z", False),
        ("", "2025-03-01T13:00:00.001Z", True),
    ],
)
async def test_a_handle_is_looked_up_again_after_a_day_of_events_and_none_after_an_hour(
    index: Index, directory: Directory, look: Look, *, handle: str, then: str, is_due: bool
) -> None:
    directory.person(ALICE, handle)
    await index.apply(make.create(ALICE, "a", make.post(), 0))
    await look()
    await index.apply(make.create(ALICE, "b", make.post("late"), 1, time=then))
    assert await checks(index) == ([(ALICE, then, 0)] if is_due else [])


async def test_a_backfill_is_no_reason_to_look_again(index: Index, directory: Directory, look: Look) -> None:
    directory.person(ALICE)
    await index.apply(make.create(ALICE, "a", make.post(), 0))
    await look()
    await index.apply(*snapshot(ALICE, {(POST, "b"): make.post("b")}, 5, read_at=10 * HOUR))
    assert await checks(index) == []


async def test_a_slow_look_holds_up_no_other(index: Index) -> None:
    await index.apply(*(make.identity(make.did(name), 1) for name in ("a", "b", "c", "d", "e")))
    stop, slow, seen = asyncio.Event(), asyncio.Event(), Counter[str]()

    async def look(check: Check) -> None:
        seen[check.did] += 1
        if len(seen) == 1:
            await slow.wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(DueChecks(index.database, handles.TABLE, look, concurrency=2).run(stop))
        await until(lambda: len(seen) == 5)
        stop.set()
        slow.set()
    assert set(seen.values()) == {1}


async def test_who_is_looked_at_by_several_indexers_is_looked_at_once(index: Index) -> None:
    dids = [make.did(f"p{letter}") for letter in "bcdefghijklmnopqrst"]
    await index.apply(*(make.identity(did, 1) for did in dids))
    stop, seen = asyncio.Event(), Counter[str]()

    async def note(check: Check) -> None:
        seen[check.did] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(DueChecks(index.database, handles.TABLE, note, 4).run(stop))
        await until(lambda: len(seen) == len(dids))
        stop.set()
    assert set(seen.values()) == {1}
