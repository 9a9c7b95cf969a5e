"""What a batch asks for depends on the events in it, and on nothing else."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events import StreamEvent
from indexer.batch import Batch, Item, SnapshotProgress, collect, ranges
from indexer.work import cut
from tests import factories as make
from tests.factories import ALICE, BOB, LIKE, POST, items, rev, uri

URI = uri(ALICE, POST, "a")
EVENTS: list[StreamEvent] = [
    make.create(ALICE, "a", make.post("one"), 1),
    make.update(ALICE, "a", make.post("two"), 2),
    make.delete(ALICE, POST, "a", 3),
    make.create(ALICE, "a", make.post("three"), 4),
    make.create(ALICE, "a", make.post("three"), 4, seq=-1, time=make.moment(900)),
    make.create(ALICE, "b", make.post("b"), 4),
    make.create(BOB, "a", make.post("b"), 2),
    make.delete(BOB, LIKE, "a", 5),
    make.sync(BOB, 6),
    *make.snapshot(ALICE, {(POST, "a"): make.post("three"), (POST, "b"): None}, 5),
    make.identity(ALICE, 1, "alice.test"),
    make.identity(ALICE, 7, None),
    make.account(BOB, 3, active=False, status="takendown"),
    make.account(BOB, 8, active=True),
]


def gist(batch: Batch) -> dict[str, Any]:
    """All of a batch, without the order in which things stand in it."""
    return {
        "newest": {key: item.event for key, item in batch.newest.items()},
        "superseded": sorted(repr(item.event) for item in batch.superseded),
        "commits": batch.commits,
        "times": {who: sorted(times) for who, times in batch.times.items()},
        "backfilled": batch.backfilled,
        "identities": batch.identities,
        "accounts": batch.accounts,
        "snapshots": {layout: (ranges(parts.indexes), parts.collections) for layout, parts in batch.snapshots.items()},
        "refused": batch.refused,
    }


@given(st.permutations(EVENTS))
def test_order_makes_no_difference(events: Sequence[StreamEvent]) -> None:
    assert gist(collect(items(events))) == gist(collect(items(EVENTS)))


def test_of_each_key_only_the_newest_counts() -> None:
    batch = collect(items(EVENTS[:4]))
    assert {key: item.event for key, item in batch.newest.items()} == {URI: EVENTS[3]}
    assert [item.event for item in batch.superseded] == EVENTS[:3]


def test_of_one_version_the_live_event_knows_its_own_time_best() -> None:
    live, backfilled = EVENTS[3], EVENTS[4]
    for events in ([live, backfilled], [backfilled, live]):
        assert collect(items(events)).newest[URI].event == live


def test_the_newest_commit_of_a_repo_is_known() -> None:
    batch = collect(items(EVENTS[:3]))
    assert batch.commits == {ALICE: (rev(3), make.cid(f"{ALICE} 3"))}


def test_a_sync_moves_the_commit_and_no_record() -> None:
    batch = collect(items([make.sync(ALICE, 9)]))
    assert (batch.newest, list(batch.commits), list(batch.times)) == ({}, [ALICE], [ALICE])


def test_a_backfill_is_no_sign_of_life() -> None:
    parts = make.snapshot(ALICE, {(POST, "a"): make.post()}, 1, read_at=500)
    batch = collect(items(parts))
    assert (dict(batch.times), batch.backfilled) == ({}, {ALICE: make.moment(500)})


def test_parts_of_a_snapshot_are_gathered_by_their_layout() -> None:
    two = make.snapshot(ALICE, {(POST, "a"): make.post(), (POST, "b"): make.post()}, 1, collections=("app.bsky.*",))
    one = make.snapshot(ALICE, {(POST, "a"): make.post()}, 1, collections=("app.bsky.feed.*",))
    batch = collect(items([two[1], one[0], two[2]]))
    assert batch.snapshots == {
        (ALICE, rev(1), 2): SnapshotProgress([1, 2], ("app.bsky.*",)),
        (ALICE, rev(1), 1): SnapshotProgress([0], None),
    }


def test_the_end_of_a_snapshot_made_by_others_knows_no_filter() -> None:
    (end,) = make.snapshot(ALICE, {}, 1, collections=())
    assert collect(items([end])).snapshots == {(ALICE, rev(1), 0): SnapshotProgress([0], ())}


def test_a_rev_beyond_the_horizon_is_refused_before_it_can_win() -> None:
    events = [
        make.create(ALICE, "a", make.post(), 1),
        make.create(ALICE, "a", make.post("late"), 900),
        make.sync(ALICE, 901),
    ]
    batch = collect(items(events), horizon=rev(300))
    assert (batch.newest[URI].event, batch.superseded, batch.refused) == (events[0], [], 1)
    assert batch.commits[ALICE][0] == rev(1)


def test_every_record_event_is_accounted_for() -> None:
    batch = collect(items(EVENTS), horizon=rev(4))
    records = [event for event in EVENTS if hasattr(event, "rkey")]
    assert len(batch.newest) + len(batch.superseded) + batch.refused == len(records)


def test_the_newest_word_on_an_account_counts() -> None:
    active, gone = make.account(BOB, 5, active=True), make.account(BOB, 4, active=False, status="deleted")
    for events in ([active, gone], [gone, active]):
        assert collect(items(events)).accounts == {BOB: active}


def test_the_last_identity_event_calls_for_the_look() -> None:
    for events in (
        [make.identity(ALICE, 1), make.identity(ALICE, 2)],
        [make.identity(ALICE, 2), make.identity(ALICE, 1)],
    ):
        assert collect(items(events)).identities == {ALICE: make.moment(2)}


def test_an_empty_batch_asks_for_nothing() -> None:
    assert gist(collect([])) == gist(Batch())


@given(st.lists(st.integers(0, 30)))
def test_ranges_hold_exactly_the_numbers(numbers: list[int]) -> None:
    runs = ranges(numbers)
    assert [number for first, end in runs for number in range(first, end)] == sorted(set(numbers))
    assert all(end < first for (_, end), (first, _) in pairwise(runs))


@pytest.mark.parametrize(("numbers", "runs"), [([], []), ([3], [(3, 4)]), ([2, 0, 1, 1, 5], [(0, 3), (5, 6)])])
def test_runs_are_half_open(numbers: list[int], runs: list[tuple[int, int]]) -> None:
    assert ranges(numbers) == runs


@given(st.lists(st.integers(0, 120)))
def test_portions_keep_all_items_in_order_and_stay_within_their_bytes(sizes: list[int]) -> None:
    given_items = [Item(make.delivery(b"x" * size), None) for size in sizes]
    found = cut(given_items, 100)
    assert [item for portion in found for item in portion] == given_items
    for portion in found:
        size = sum(len(item.delivery.payload or b"") for item in portion)
        assert portion
        assert size <= 100 or len(portion) == 1
    for first, second in pairwise(found):
        assert sum(len(item.delivery.payload or b"") for item in (*first, second[0])) > 100
