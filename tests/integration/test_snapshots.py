"""Snapshots: a whole repo in parts, which deletes what it lacks once all of them have been applied."""

import pytest

from common.events import StreamEvent
from indexer.dating import UNDATED
from tests import factories as make
from tests.factories import (
    ALICE,
    BOB,
    LIKE,
    POST,
    PROFILE,
    rev,
    snapshot,
    uri,
)
from tests.indexing import Index

BOBS = uri(BOB, POST, "b")
ONE, TWO = make.post("one"), make.post("two")


def two_posts_and_a_like(at: float) -> list[StreamEvent]:
    return snapshot(ALICE, {(POST, "a"): ONE, (POST, "b"): TWO, (LIKE, "l"): make.like(BOBS)}, at)


async def keys(index: Index) -> list[str]:
    return [found.rpartition("/")[2] for found in await index.rows("record", "uri")]


async def test_a_whole_snapshot_fills_the_tables_and_sets_the_floor(index: Index) -> None:
    await index.apply(*two_posts_and_a_like(5))
    tables = await index.everything()
    assert await keys(index) == ["l", "a", "b"]
    assert tables["sluice.repo"][0]["floor_rev"] == rev(5)
    assert "sluice.snapshot" not in tables
    assert await index.rows("actor_sync", "repoRev") == [rev(5)]


async def test_what_a_whole_snapshot_lacks_is_deleted(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1), make.create(ALICE, "gone", TWO, 2))
    await index.apply(*snapshot(ALICE, {(POST, "a"): ONE}, 5))
    assert await keys(index) == ["a"]
    assert await index.rows("post", "text") == ["one"]
    assert await index.count("profile_agg", "postsCount", ALICE) == 1


async def test_what_is_newer_than_the_snapshot_stays(index: Index) -> None:
    await index.apply(make.create(ALICE, "new", TWO, 6))
    await index.apply(*snapshot(ALICE, {(POST, "a"): ONE}, 5))
    assert await keys(index) == ["a", "new"]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [3, 0, 2, 1], [1, 1, 3, 0, 0, 2]])
async def test_parts_of_a_snapshot_may_come_in_any_order_and_twice(order: list[int], index: Index) -> None:
    await index.apply(make.create(ALICE, "gone", TWO, 2))
    parts = two_posts_and_a_like(5)
    for part in order[:-1]:
        await index.apply(parts[part])
        assert "gone" in await keys(index)
    await index.apply(parts[order[-1]])
    assert await keys(index) == ["l", "a", "b"]


async def test_a_snapshot_that_is_not_whole_deletes_nothing(index: Index) -> None:
    await index.apply(make.create(ALICE, "gone", TWO, 2))
    for missing in range(4):
        parts = two_posts_and_a_like(5 + missing)
        await index.apply(*parts[:missing], *parts[missing + 1 :])
        assert "gone" in await keys(index)
    assert (await index.everything()).get("sluice.repo", [{"floor_rev": ""}])[0]["floor_rev"] == ""


async def test_parts_of_two_layouts_never_add_up_to_one(index: Index) -> None:
    """The same rev unpacked with another filter: two records of two, and the third of three."""
    await index.apply(make.create(ALICE, "gone", TWO, 2))
    three, two = two_posts_and_a_like(5), snapshot(ALICE, {(POST, "a"): ONE, (POST, "b"): TWO}, 5)
    await index.apply(*three[:2], *two[1:])
    assert "gone" in await keys(index)
    await index.apply(two[0])
    assert "gone" not in await keys(index)


async def test_a_snapshot_deletes_only_within_its_collections(index: Index) -> None:
    await index.apply(make.create(ALICE, "p", ONE, 1), make.create(ALICE, "l", make.like(BOBS), 2))
    await index.apply(*snapshot(ALICE, {}, 5, collections=("app.bsky.graph.*", LIKE)))
    assert await keys(index) == ["p"]


async def test_a_snapshot_made_by_others_has_no_filter_and_deletes_nothing(index: Index) -> None:
    await index.apply(make.create(ALICE, "p", ONE, 1))
    await index.apply(*snapshot(ALICE, {}, 5, collections=()))
    assert await keys(index) == ["p"]


async def test_below_the_floor_everything_is_stale(index: Index) -> None:
    await index.apply(*snapshot(ALICE, {(POST, "a"): ONE}, 5))
    before = await index.everything()
    await index.apply(make.create(ALICE, "late", TWO, 4), make.delete(ALICE, POST, "a", 3))
    await index.apply(make.update(ALICE, "a", TWO, 5))
    await index.apply(*snapshot(ALICE, {(POST, "b"): TWO}, 4))
    after = await index.everything()
    assert {(life["uri"][-1], life["rev"]) for life in after.pop("sluice.life")} == {
        ("a", rev(3)),
        *(("b", stone) for stone in (rev(4) + UNDATED, rev(5))),
        *(("e", rev(time)) for time in (4, 5)),
    }
    assert after == before


async def test_a_whole_snapshot_sweeps_the_tombstones_up_to_it(index: Index) -> None:
    await index.apply(make.delete(ALICE, LIKE, "x", 4), make.delete(ALICE, LIKE, "y", 6))
    await index.apply(*snapshot(ALICE, {}, 5))
    assert [stone["rev"] for stone in (await index.everything())["sluice.tombstone"]] == [rev(6)]
    like = make.like(BOBS)
    await index.apply(make.create(ALICE, "x", like, 3), make.create(ALICE, "y", like, 3))
    assert await keys(index) == []


async def test_what_others_are_judged_by_is_remembered_beyond_a_snapshot(index: Index) -> None:
    async def remembered() -> dict[str, str]:
        """Until when what was written at which rev was there."""
        lives = (await index.everything())["sluice.life"]
        assert all(life["deleted"] for life in lives if life["says"])
        return {life["rev"]: life["until"] for life in lives if life["says"]}

    await index.apply(
        make.create(ALICE, "x", ONE, 1), make.delete(ALICE, POST, "x", 2), make.create(ALICE, "y", TWO, 3)
    )
    await index.apply(*snapshot(ALICE, {}, 5))
    assert await remembered() == {rev(1): make.moment(2), rev(3): make.moment(5)}
    await index.apply(make.delete(ALICE, POST, "y", 4))
    assert await remembered() == {rev(1): make.moment(2), rev(3): make.moment(4)}


async def test_a_record_that_cannot_be_read_counts_as_present_and_holds_nothing(index: Index) -> None:
    await index.apply(make.create(ALICE, "x", ONE, 1), make.create(ALICE, "gone", ONE, 2))
    await index.apply(*snapshot(ALICE, {(POST, "x"): None}, 5))
    assert await keys(index) == []
    await index.apply(make.create(ALICE, "x", TWO, 6))
    assert await keys(index) == ["x"]


async def test_an_invalid_record_of_a_snapshot_does_not_keep_it_from_being_whole(index: Index) -> None:
    await index.apply(make.create(ALICE, "gone", ONE, 2))
    await index.apply(*snapshot(ALICE, {(POST, "a"): {"$type": POST, "text": 5}, (POST, "b"): make.post("\x00")}, 5))
    assert await keys(index) == []


async def test_a_snapshot_of_an_empty_repo_is_whole_at_once(index: Index) -> None:
    await index.apply(make.create(ALICE, "gone", ONE, 2), make.create(BOB, "b", ONE, 2))
    await index.apply(*snapshot(ALICE, {}, 5))
    assert await index.rows("record", "did") == [BOB]


async def test_an_older_snapshot_that_comes_whole_later_changes_nothing(index: Index) -> None:
    await index.apply(*snapshot(ALICE, {(POST, "a"): TWO}, 6))
    before = await index.everything()
    await index.apply(*snapshot(ALICE, {(LIKE, "b"): make.like(uri(ALICE, POST, "a"))}, 5))
    assert await index.everything() == before | {"post_agg": (await index.everything())["post_agg"]}


async def test_a_newer_snapshot_makes_an_unfinished_older_one_pointless(index: Index) -> None:
    parts = two_posts_and_a_like(5)
    await index.apply(*parts[:2])
    await index.apply(*snapshot(ALICE, {(POST, "z"): ONE}, 6))
    await index.apply(*parts[2:])
    assert await keys(index) == ["z"]
    assert "sluice.snapshot" not in await index.everything()


async def test_a_backfill_after_the_live_events_changes_no_row_but_revs(index: Index) -> None:
    records = {(POST, "a"): ONE, (LIKE, "l"): make.like(BOBS), (PROFILE, "self"): make.profile("Alice")}
    for number, ((_, rkey), value) in enumerate(records.items()):
        await index.apply(make.create(ALICE, rkey, value, number))
    revs = {"record": ["rev"], "actor_sync": ["repoRev", "commitCid"], "sluice.repo": ["floor_rev", "did"]}
    before = await index.everything(without=revs)
    await index.apply(*snapshot(ALICE, records, 5))
    after = await index.everything(without=revs)
    assert {table: rows for table, rows in after.items() if table in before} == before
    assert set(await index.rows("record", "rev")) == {rev(5)}


async def test_a_gate_that_a_snapshot_lacks_leaves_its_mark_on_the_post(index: Index) -> None:
    gate = make.record("app.bsky.feed.threadgate", post=uri(ALICE, POST, "a"), allow=[])
    await index.apply(make.create(ALICE, "a", ONE, 1), make.create(ALICE, "a", gate, 2))
    assert await index.rows("post", "hasThreadGate") == [True]
    await index.apply(*snapshot(ALICE, {(POST, "a"): ONE}, 5))
    assert await index.rows("post", "hasThreadGate") == [False]
