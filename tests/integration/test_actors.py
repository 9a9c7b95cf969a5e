"""People: that they exist, and whether they are there."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from common.events import StreamEvent
from common.syntax import utc_text
from tests import factories as make
from tests.factories import ALICE, BOB, POST, moment, snapshot
from tests.indexing import Index
from tests.people import checks, people

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


@pytest.mark.parametrize("event", [make.account(ALICE, 100, active=False, status="deleted"), make.identity(ALICE, 1)])
async def test_an_event_from_the_future_does_not_make_all_others_look_old(event: Any, index: Index) -> None:
    await index.apply(msgspec.structs.replace(event, time="9999-12-31T23:59:59.999Z"))
    (told,) = await index.pool.fetch("SELECT greatest(account_time, identity_time) FROM sluice_bsky.repo")
    assert told[0] < utc_text(datetime.now(UTC) + timedelta(hours=1))
