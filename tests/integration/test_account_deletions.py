"""Accounts that are deleted: nothing is left of them once their server says so, and everything until then."""

import msgspec
import pytest

from common.identity import Identities
from common.outbound import Outbound
from indexer.deletions import DeletionCheck
from indexer.due import Check
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, LIKE, POST, moment, uri
from tests.indexing import Index
from tests.people import Directory, Look, checks, people
from tests.samples import moved

JOINED = make.profile("Alice", joinedViaStarterPack=make.ref(uri(BOB, "app.bsky.graph.starterpack", "s")))
DELETED = make.account(ALICE, 100, active=False, status="deleted")


async def with_a_past(index: Index) -> None:
    """ALICE has written, liked and followed; others have liked and followed her; BOB has his own life."""
    alices, bobs = uri(ALICE, POST, "a"), uri(BOB, POST, "b")
    await index.apply(
        *(make.create(ALICE, "a", make.post(), 1), make.create(ALICE, "r", make.reply(bobs), 2)),
        *(make.create(ALICE, "q", make.quote(bobs), 3), make.create(ALICE, "l", make.like(bobs), 4)),
        *(make.create(ALICE, "f", make.follow(BOB), 5), make.create(ALICE, "self", JOINED, 6)),
        *(make.create(ALICE, "p", make.repost(bobs), 7), make.delete(ALICE, LIKE, "gone", 8)),
        *(make.create(ALICE, "o", make.reply(alices), 8), make.delete(ALICE, POST, "o", 9)),
        *(make.create(BOB, "b", make.post("bob"), 1), make.create(BOB, "l", make.like(alices), 9)),
        *(make.create(CAROL, "f", make.follow(ALICE), 9), make.create(CAROL, "l", make.like(bobs), 9)),
    )


async def gone(index: Index, directory: Directory, look: Look) -> None:
    """ALICE had her past, was said to be deleted, and is no longer at her PDS."""
    directory.person(ALICE, "alice.test")
    directory.refusals["getLatestCommit"] = (400, "RepoNotFound")
    await with_a_past(index)
    await index.apply(DELETED)
    await look()


async def test_an_account_that_is_gone_from_its_pds_leaves_nothing(
    index: Index, directory: Directory, look: Look
) -> None:
    await gone(index, directory, look)
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
    what: str, index: Index, directory: Directory, look: Look
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


async def test_a_pds_is_asked_for_the_did_as_it_is_written(index: Index, directory: Directory, look: Look) -> None:
    directory.person(directory.own_did)
    await index.apply(make.account(directory.own_did, 1, active=False, status="deleted"))
    await look()
    assert directory.asked[f"getLatestCommit of {directory.own_did}"] == 1


@pytest.mark.parametrize("what", ["it has no document", "its document names no server"])
async def test_an_account_without_a_server_is_gone(what: str, index: Index, directory: Directory, look: Look) -> None:
    if what == "its document names no server":
        directory.person(ALICE, pds=False)
    await with_a_past(index)
    await index.apply(DELETED)
    await look()
    assert ALICE not in await people(index)


@pytest.mark.parametrize("refused", [ALICE, "getLatestCommit"])
async def test_as_long_as_nobody_can_be_asked_nothing_is_removed(
    refused: str, index: Index, directory: Directory, look: Look
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
    overtaken = moved("indexer_account_tasks_total", kind="deletion", result="overtaken")
    async with Outbound(allow=[directory.origin]) as outbound:
        deletion = DeletionCheck(index.database, Identities(outbound, directory.url), outbound)
        await index.apply(make.account(ALICE, 3, active=True))
        await deletion.look(Check(ALICE, moment(2), 0))
    assert await index.rows("post", "uri") == [uri(ALICE, POST, "a")]
    assert overtaken() == 1


async def test_a_replay_does_not_bring_the_deleted_back_and_new_events_do(
    index: Index, directory: Directory, look: Look
) -> None:
    await gone(index, directory, look)
    before = await index.everything(without=TRIES)
    await with_a_past(index)
    await index.apply(DELETED)
    await look()
    assert await index.everything(without=TRIES) == before
    await index.apply(make.create(ALICE, "new", make.post("I am back"), 200))
    assert ALICE in await people(index)
    assert await index.rows("post", "text") == ["I am back", "bob"]


async def test_an_account_that_was_deleted_before_1970_may_write_again(index: Index, look: Look) -> None:
    await index.apply(make.create(ALICE, "old", make.post("old"), 1))
    await index.apply(msgspec.structs.replace(DELETED, time="0001-01-01T00:00:00Z"))
    await look()
    await index.apply(make.create(ALICE, "new", make.post("I am back"), 2))
    assert await index.rows("post", "text") == ["I am back"]


async def test_a_deletion_of_somebody_unknown_does_no_harm(index: Index, look: Look) -> None:
    await index.apply(DELETED)
    await look()
    assert await people(index) == {}
