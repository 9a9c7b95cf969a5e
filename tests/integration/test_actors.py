"""People: that they exist, what they are called, whether they are there, and that they are gone when they are gone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from common.events import StreamEvent
from common.identity import Identities
from common.outbound import Outbound
from common.settings import load
from common.syntax import utc_text
from indexer import handles
from indexer.app import look_up_services
from indexer.deletions import DeletionCheck
from indexer.due import Check, DueChecks
from indexer.settings import Settings
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, LIKE, POST, moment, snapshot, uri
from tests.indexing import Index
from tests.waiting import until

HOUR = 3600.0


@dataclass
class Directory:
    """PLC directory, handle resolver and PDS behind one address, whose answers a test writes."""

    url: str = ""
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    handles: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)  # path or DID -> status and XRPC error
    asked: Counter[str] = field(default_factory=Counter)

    def person(self, did: str, handle: str = "", *, pds: bool = True) -> None:
        """Somebody with a document that names this handle, and a repo at the PDS."""
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": self.url}
        names = [f"at://{handle}"] if handle else []
        self.documents[did] = {"id": did, "alsoKnownAs": names, "service": [service] if pds else []}
        if handle:
            self.handles[handle.lower()] = did

    async def document(self, request: web.Request) -> web.Response:
        return self._answer(request, request.match_info["did"], self.documents.get(request.match_info["did"]), "")

    async def resolve(self, request: web.Request) -> web.Response:
        did = self.handles.get(request.query["handle"])
        return self._answer(request, "resolveHandle", {"did": did} if did else None, "HandleNotFound")

    async def latest_commit(self, request: web.Request) -> web.Response:
        return self._answer(request, "getLatestCommit", {"cid": "x", "rev": "y"}, "RepoNotFound")

    def _answer(self, request: web.Request, what: str, answer: Any, error: str) -> web.Response:
        self.asked[what] += 1
        status, error = self.refusals.get(what, (404 if not error else 400, error))
        if answer is None or what in self.refusals:
            return web.json_response({"error": error}, status=status)
        return web.json_response(answer)


@pytest.fixture
async def directory() -> AsyncIterator[Directory]:
    here = Directory()
    app = web.Application()
    app.router.add_get("/xrpc/com.atproto.identity.resolveHandle", here.resolve)
    app.router.add_get("/xrpc/com.atproto.sync.getLatestCommit", here.latest_commit)
    app.router.add_get("/{did}", here.document)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    here.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield here
    await runner.cleanup()


@pytest.fixture
def look(index: Index, directory: Directory) -> Callable[[], Coroutine[Any, Any, None]]:
    """Let an indexer that has just been started look up whatever is due now, once."""

    async def look() -> None:
        allowed = directory.url.removeprefix("http://")
        environ = {"PLC_URL": directory.url, "INDEXER_HANDLE_RESOLVER": directory.url, "OUTBOUND_ALLOW": allowed}
        settings, stop = load(Settings, environ, "INDEXER_"), asyncio.Event()
        async with Outbound(allow=settings.outbound_allow) as outbound, asyncio.TaskGroup() as tasks:
            for service in look_up_services(settings, index.database, outbound):
                tasks.create_task(service(stop))
            await until(lambda: nothing_is_due(index))
            stop.set()

    return look


async def nothing_is_due(index: Index) -> bool:
    """Whether all that waits has been tried once."""
    waiting = [*await checks(index), *await checks(index, "deletion_check")]
    return all(tries for _, _, tries in waiting)


async def people(index: Index) -> dict[str, tuple[str | None, str | None]]:
    """did -> (handle, status)"""
    rows = await index.rows("actor", "did", "handle", "upstreamStatus")
    return {did: (handle, status) for did, handle, status in rows}


async def checks(index: Index, table: str = "handle_check") -> list[tuple[str, str, int]]:
    rows = await index.pool.fetch(f"SELECT did, time, attempts FROM sluice_bsky.{table} ORDER BY did")
    return [tuple(row) for row in rows]


# first sight

FIRST_SIGHTS: dict[str, list[StreamEvent]] = {
    "a record": [make.create(ALICE, "a", make.post(), 1)],
    "a deletion": [make.delete(ALICE, POST, "a", 1)],
    "a record that nobody reads": [make.create(ALICE, "a", {"$type": "com.example.thing"}, 1)],
    "an invalid record": [make.create(ALICE, "a", {"$type": POST}, 1)],
    "a commit": [make.sync(ALICE, 1)],
    "an identity event": [make.identity(ALICE, 1, "alice.test")],
    "an account event": [make.account(ALICE, 1, active=True)],
    "a backfill": snapshot(ALICE, {(POST, "a"): make.post()}, 0, read_at=1),
}


@pytest.mark.parametrize("what", FIRST_SIGHTS)
async def test_who_is_seen_for_the_first_time_gets_a_row_and_a_look_at_their_handle(what: str, index: Index) -> None:
    await index.apply(*FIRST_SIGHTS[what])
    assert await index.rows("actor", "did", "handle", "indexedAt") == [(ALICE, None, moment(1))]
    assert await checks(index) == [(ALICE, moment(1), 0)]


async def test_who_is_only_mentioned_gets_no_row(index: Index) -> None:
    await index.apply(make.create(ALICE, "f", make.follow(BOB), 1))
    assert (await people(index)).keys() == {ALICE}


# handles


async def test_a_handle_that_leads_back_is_stored_in_lower_case(index: Index, directory: Directory, look: Any) -> None:
    directory.person(ALICE, "Alice.Test")
    await index.apply(make.create(ALICE, "a", make.post(), 5))
    await look()
    assert await index.rows("actor", "did", "handle", "indexedAt") == [(ALICE, "alice.test", moment(5))]
    assert await checks(index) == []


@pytest.mark.parametrize("claim", ["it leads to somebody else", "it leads nowhere", "it is no handle", "there is none"])
async def test_a_handle_that_does_not_lead_back_is_not_stored(
    claim: str, index: Index, directory: Directory, look: Any
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
    index: Index, directory: Directory, look: Any
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


async def test_two_who_swap_their_handles_both_get_them(index: Index, directory: Directory, look: Any) -> None:
    directory.person(ALICE, "one.test")
    directory.person(BOB, "two.test")
    await index.apply(make.identity(ALICE, 1), make.identity(BOB, 1))
    await look()
    directory.person(ALICE, "two.test")
    directory.person(BOB, "one.test")
    await index.apply(make.identity(ALICE, 2), make.identity(BOB, 2))
    await look()
    assert await people(index) == {ALICE: ("two.test", None), BOB: ("one.test", None)}


@pytest.mark.parametrize("refused", [ALICE, "resolveHandle"])
async def test_when_nobody_can_be_asked_the_look_is_postponed_and_the_old_handle_stays(
    refused: str, index: Index, directory: Directory, look: Any
) -> None:
    directory.person(ALICE, "alice.test")
    await index.apply(make.identity(ALICE, 1))
    await look()
    directory.refusals[refused] = (500, "InternalServerError")
    await index.apply(make.identity(ALICE, 2))
    await look()
    assert await people(index) == {ALICE: ("alice.test", None)}
    assert await checks(index) == [(ALICE, moment(2), 1)]


async def test_who_has_no_document_keeps_a_row_and_is_looked_up_again_later(index: Index, look: Any) -> None:
    await index.apply(make.identity(ALICE, 1))
    await look()
    assert await people(index) == {ALICE: (None, None)}
    assert await checks(index) == [(ALICE, moment(1), 1)]


async def test_an_identity_event_calls_for_a_look_and_its_replay_does_not(
    index: Index, directory: Directory, look: Any
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
    index: Index, directory: Directory, look: Any, *, handle: str, then: str, is_due: bool
) -> None:
    directory.person(ALICE, handle)
    await index.apply(make.create(ALICE, "a", make.post(), 0))
    await look()
    await index.apply(make.create(ALICE, "b", make.post("late"), 1, time=then))
    assert await checks(index) == ([(ALICE, then, 0)] if is_due else [])


async def test_a_backfill_is_no_reason_to_look_again(index: Index, directory: Directory, look: Any) -> None:
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


# accounts


@pytest.mark.parametrize(
    ("status", "stored"),
    [
        *((status, status) for status in ("takendown", "suspended", "deactivated")),
        *(("Takendown", "takendown"), ("Frozen", "frozen"), (None, "inactive")),
    ],
)
async def test_a_status_is_stored_and_taken_back(status: str | None, stored: str, index: Index) -> None:
    await index.apply(make.account(ALICE, 1, active=False, status=status))
    assert await people(index) == {ALICE: (None, stored)}
    await index.apply(make.account(ALICE, 2, active=True, status=status))
    assert await people(index) == {ALICE: (None, None)}


@pytest.mark.parametrize("status", ["desynchronized", "throttled", "Throttled"])
async def test_trouble_of_the_senders_hides_nobody(status: str, index: Index) -> None:
    await index.apply(make.account(ALICE, 1, active=False, status="suspended"))
    await index.apply(make.account(ALICE, 2, active=False, status=status))
    assert await people(index) == {ALICE: (None, "suspended")}


async def test_the_newest_status_counts_whatever_came_first(index: Index) -> None:
    await index.apply(make.account(ALICE, 5, active=True))
    await index.apply(make.account(ALICE, 3, active=False, status="takendown"))
    assert await people(index) == {ALICE: (None, None)}
    await index.apply(make.account(BOB, 5, active=True), make.account(BOB, 3, active=False, status="takendown"))
    assert (await people(index))[BOB] == (None, None)


async def test_a_takedown_of_the_appviews_is_not_ours_to_lift(index: Index) -> None:
    await index.apply(make.account(ALICE, 1, active=False, status="suspended"))
    await index.pool.execute("""UPDATE bsky.actor SET "takedownRef" = 'T'""")
    await index.apply(make.account(ALICE, 2, active=True))
    assert await index.rows("actor", "takedownRef", "upstreamStatus") == [("T", None)]


# deletion

DELETED = make.account(ALICE, 100, active=False, status="deleted")


async def with_a_past(index: Index) -> None:
    """ALICE has written, liked and followed; others have liked and followed her; BOB has his own life."""
    alices, bobs = uri(ALICE, POST, "a"), uri(BOB, POST, "b")
    await index.apply(
        *(make.create(ALICE, "a", make.post(), 1), make.create(ALICE, "r", make.reply(bobs), 2)),
        *(make.create(ALICE, "q", make.quote(bobs), 3), make.create(ALICE, "l", make.like(bobs), 4)),
        *(make.create(ALICE, "f", make.follow(BOB), 5), make.create(ALICE, "self", make.profile("Alice"), 6)),
        *(make.create(ALICE, "p", make.repost(bobs), 7), make.delete(ALICE, LIKE, "gone", 8)),
        *(make.create(BOB, "b", make.post("bob"), 1), make.create(BOB, "l", make.like(alices), 9)),
        *(make.create(CAROL, "f", make.follow(ALICE), 9), make.create(CAROL, "l", make.like(bobs), 9)),
    )


async def test_an_account_that_is_gone_from_its_pds_leaves_nothing(
    index: Index, directory: Directory, look: Any
) -> None:
    directory.person(ALICE, "alice.test")
    directory.refusals["getLatestCommit"] = (400, "RepoNotFound")
    await with_a_past(index)
    await index.apply(DELETED)
    await look()
    assert ALICE not in await people(index)
    left = await index.everything()
    owners = {row.get(column) for rows in left.values() for row in rows for column in ("creator", "originatorDid")}
    assert ALICE not in owners
    assert {did for (did,) in await index.pool.fetch("SELECT did FROM bsky.record")} == {BOB, CAROL}
    bobs = uri(BOB, POST, "b")
    (counts,) = [row for row in left["post_agg"] if row["uri"] == bobs]
    assert [counts[f"{what}Count"] for what in ("like", "reply", "quote", "repost")] == [1, 0, 0, 0]
    assert await index.count("profile_agg", "followersCount", BOB) == 0
    assert await index.rows("notification", "author", "did") == [(CAROL, BOB)]
    assert {table for table in left if table.startswith("sluice.")} >= {"sluice.repo"}
    assert [stone for stone in left.get("sluice.tombstone", []) if stone["did"] == ALICE] == []
    assert [life for life in left.get("sluice.life", []) if ALICE in life["uri"]] == []


TRIES = {"sluice.handle_check": {"attempts"}}  # those of others may be due again at any time
STILL_THERE = {
    "it answers": None,
    "it is deactivated": (400, "RepoDeactivated"),
    "it is taken down": (400, "RepoTakendown"),
}


@pytest.mark.parametrize("what", STILL_THERE)
async def test_an_account_that_its_pds_still_hosts_is_left_alone(
    what: str, index: Index, directory: Directory, look: Any
) -> None:
    directory.person(ALICE, "alice.test")
    if refusal := STILL_THERE[what]:
        directory.refusals["getLatestCommit"] = refusal
    await with_a_past(index)
    await look()
    before = await index.everything(without=TRIES)
    await index.apply(DELETED)
    await look()
    assert directory.asked["getLatestCommit"] == 1
    after = await index.everything(without=TRIES)
    assert {table: rows for table, rows in after.items() if table != "sluice.repo"} == before


@pytest.mark.parametrize("what", ["it has no document", "its document names no server"])
async def test_an_account_without_a_server_is_gone(what: str, index: Index, directory: Directory, look: Any) -> None:
    if what == "its document names no server":
        directory.person(ALICE, pds=False)
    await with_a_past(index)
    await index.apply(DELETED)
    await look()
    assert ALICE not in await people(index)


@pytest.mark.parametrize("refused", [ALICE, "getLatestCommit"])
async def test_as_long_as_nobody_can_be_asked_nothing_is_removed(
    refused: str, index: Index, directory: Directory, look: Any
) -> None:
    directory.person(ALICE, "alice.test")
    directory.refusals[refused] = (503, "")
    await with_a_past(index)
    await index.apply(DELETED)
    await look()
    assert ALICE in await people(index)
    assert len(await index.rows("record", "uri")) == 11
    assert await checks(index, "deletion_check") == [(ALICE, moment(100), 1)]


async def test_an_account_that_is_back_before_anyone_looked_is_not_looked_at(index: Index) -> None:
    await index.apply(DELETED)
    assert await checks(index, "deletion_check") == [(ALICE, moment(100), 0)]
    await index.apply(make.account(ALICE, 101, active=True))
    assert await checks(index, "deletion_check") == []
    await index.apply(DELETED)
    assert await checks(index, "deletion_check") == []


async def test_an_account_that_comes_back_while_its_pds_is_asked_stays(index: Index, directory: Directory) -> None:
    await index.apply(make.create(ALICE, "a", make.post(), 1), make.account(ALICE, 2, active=False, status="deleted"))
    before = removals("overtaken")
    async with Outbound(allow=(directory.url.removeprefix("http://"),)) as outbound:
        deletion = DeletionCheck(index.database, Identities(outbound, directory.url), outbound)
        await index.apply(make.account(ALICE, 3, active=True))
        await deletion.look(Check(ALICE, moment(2), 0))
    assert await index.rows("post", "uri") == [uri(ALICE, POST, "a")]
    assert removals("overtaken") == before + 1


def removals(result: str) -> float:
    return REGISTRY.get_sample_value("indexer_account_tasks_total", {"kind": "deletion", "result": result}) or 0.0


async def test_a_replay_does_not_bring_the_deleted_back_and_new_events_do(
    index: Index, directory: Directory, look: Any
) -> None:
    directory.person(ALICE, "alice.test")
    directory.refusals["getLatestCommit"] = (400, "RepoNotFound")
    await with_a_past(index)
    await index.apply(DELETED)
    await look()
    before = await index.everything(without=TRIES)
    await with_a_past(index)
    await index.apply(DELETED)
    await look()
    assert await index.everything(without=TRIES) == before
    await index.apply(make.create(ALICE, "new", make.post("I am back"), 200))
    assert ALICE in await people(index)
    assert await index.rows("post", "text") == ["I am back", "bob"]


async def test_an_account_that_was_deleted_before_1970_may_write_again(index: Index, look: Any) -> None:
    await index.apply(make.create(ALICE, "old", make.post("old"), 1))
    await index.apply(msgspec.structs.replace(DELETED, time="0001-01-01T00:00:00Z"))
    await look()
    await index.apply(make.create(ALICE, "new", make.post("I am back"), 2))
    assert await index.rows("post", "text") == ["I am back"]


@pytest.mark.parametrize("event", [DELETED, make.identity(ALICE, 1)])
async def test_an_event_from_the_future_does_not_make_all_others_look_old(event: Any, index: Index) -> None:
    await index.apply(msgspec.structs.replace(event, time="9999-12-31T23:59:59.999Z"))
    (told,) = await index.pool.fetch("SELECT greatest(account_time, identity_time) FROM sluice_bsky.repo")
    assert told[0] < utc_text(datetime.now(UTC) + timedelta(hours=1))


async def test_a_deletion_of_somebody_unknown_does_no_harm(index: Index, look: Any) -> None:
    await index.apply(DELETED)
    await look()
    assert await people(index) == {}
