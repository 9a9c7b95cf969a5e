"""Events become rows: each record type, the register of versions, counts, duplicates and snapshots."""

import asyncpg
import pytest

from common.events import StreamEvent
from tests import factories as make
from tests.factories import (
    ALICE,
    BLOCK,
    BOB,
    CAROL,
    DAN,
    FOLLOW,
    LIKE,
    LIST,
    LIST_ITEM,
    POST,
    PROFILE,
    REPOST,
    Json,
    cid,
    moment,
    rev,
    snapshot,
    uri,
)
from tests.indexing import Index
from tests.record_examples import EXAMPLES, INDEXED_AT, Example

BOBS = uri(BOB, POST, "b")
ONE, TWO = make.post("one"), make.post("two")


@pytest.fixture
def index(pool: asyncpg.Pool) -> Index:
    return Index(pool)


# every record type


def with_generated_columns(table: str, row: Json) -> Json:
    """What Postgres adds: the earlier of the two times."""
    name = "sortedAt" if table == "verification" else "sortAt"
    with_sort = {"post", "quote", "like", "repost", "follow", "actor_block", "list", "list_item", "list_block", name}
    with_sort |= {"starter_pack", "verification", "feed_generator", "labeler"}
    return row | {name: min(row["createdAt"], row["indexedAt"])} if table in with_sort else row


@pytest.mark.parametrize("name", EXAMPLES)
async def test_a_record_stands_in_its_tables(name: str, index: Index) -> None:
    given = EXAMPLES[name]
    await index.apply(make.create(ALICE, given.rkey, given.record, 60))
    tables = await index.everything()
    await check_record(tables["record"], given)
    for table, rows in given.full_rows.items():
        wanted = [with_generated_columns(table, row) for row in rows]
        assert len(tables[table]) == len(wanted)
        for row in wanted:
            assert any({column: found.get(column) for column in row} == row for found in tables[table]), (row, table)
    of_records = {"post", "like", "profile", "feed_item", "list", "record", "repost", "follow", "labeler", "quote"}
    assert of_records & tables.keys() == (of_records & given.full_rows.keys()) | {"record"}


async def check_record(rows: list[Json], given: Example) -> None:
    (row,) = rows
    event = make.create(ALICE, given.rkey, given.record, 60)
    assert row["json"] == bytes(event.record).decode()
    assert {name: row[name] for name in ("uri", "cid", "did", "indexedAt", "rev")} == {
        **{"uri": given.uri, "cid": cid(given.record), "did": ALICE, "indexedAt": INDEXED_AT, "rev": rev(60)}
    }


@pytest.mark.parametrize("name", EXAMPLES)
async def test_a_deleted_record_leaves_no_row(name: str, index: Index) -> None:
    given = EXAMPLES[name]
    await index.apply(make.create(ALICE, given.rkey, given.record, 60))
    await index.apply(make.delete(ALICE, given.collection, given.rkey, 61))
    left = (await index.everything()).keys()
    # `unverified` is a notification that stays, and reply notifications are judged elsewhere
    kept = {"actor", "actor_sync", "post_agg", "profile_agg", "notification"}
    assert {table for table in left if not table.startswith("sluice.")} <= kept
    if given.collection != "app.bsky.graph.verification":
        assert "notification" not in left
    for row in (await index.everything()).get("post_agg", []) + (await index.everything()).get("profile_agg", []):
        assert not any(value for value in row.values() if isinstance(value, int))


async def test_an_update_replaces_every_row_of_the_older_version(index: Index) -> None:
    old = make.post("old", embed=_images("one", "two"), tags=["a"])
    new = make.post("new", embed=_images("three"))
    await index.apply(make.create(ALICE, "a", old, 1))
    await index.apply(make.update(ALICE, "a", new, 2))
    assert await index.rows("post", "cid", "text", "tags", "indexedAt") == [(cid(new), "new", None, moment(2))]
    assert await index.rows("post_embed_image", "position", "alt") == [("0", "three")]
    assert await index.rows("feed_item", "cid") == [cid(new)]
    assert await index.rows("record", "cid", "rev") == [(cid(new), rev(2))]
    assert await index.count("profile_agg", "postsCount", ALICE) == 1


def _images(*names: str) -> Json:
    images = [{"image": make.blob(name), "alt": name} for name in names]
    return {"$type": "app.bsky.embed.images", "images": images}


async def test_the_newest_commit_of_a_repo_is_noted_and_never_an_older(index: Index) -> None:
    late, early = make.create(ALICE, "a", ONE, 5), make.create(ALICE, "b", TWO, 1)
    await index.apply(late)
    await index.apply(early)
    assert await index.rows("actor_sync", "did", "commitCid", "repoRev") == [(ALICE, late.commit, rev(5))]
    await index.apply(make.sync(ALICE, 9))
    assert await index.rows("actor_sync", "repoRev") == [rev(9)]


async def test_a_collection_that_nobody_reads_moves_the_commit_only(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", {"$type": "com.example.thing"}, 1))
    assert (await index.everything()).keys() == {"actor", "actor_sync", "sluice.handle_check"}


# the register of versions


async def test_a_create_that_is_older_than_the_delete_changes_nothing(index: Index) -> None:
    await index.apply(make.delete(ALICE, POST, "a", 2))
    await index.apply(make.create(ALICE, "a", ONE, 1))
    assert await index.rows("record", "uri") == []


async def test_a_delete_of_an_unknown_key_is_remembered(index: Index) -> None:
    await index.apply(make.delete(ALICE, POST, "a", 2))
    (stone,) = (await index.everything())["sluice.tombstone"]
    assert (stone["uri"], stone["rev"], stone["did"]) == (uri(ALICE, POST, "a"), rev(2), ALICE)


async def test_a_record_may_come_back(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    await index.apply(make.delete(ALICE, POST, "a", 2))
    await index.apply(make.create(ALICE, "a", TWO, 3))
    assert await index.rows("record", "cid", "rev") == [(cid(TWO), rev(3))]
    assert "sluice.tombstone" not in await index.everything()
    assert await index.rows("post", "text") == ["two"]


async def test_a_version_of_the_same_rev_changes_nothing(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    before = await index.everything()
    await index.apply(make.create(ALICE, "a", TWO, 1))
    await index.apply(make.delete(ALICE, POST, "a", 1))
    assert await index.everything() == before


async def test_an_older_version_changes_nothing(index: Index) -> None:
    await index.apply(make.update(ALICE, "a", TWO, 5))
    before = await index.everything()
    await index.apply(make.create(ALICE, "a", ONE, 1))
    await index.apply(make.delete(ALICE, POST, "a", 4))
    assert await index.everything() == before


async def test_the_same_version_at_a_higher_rev_raises_its_rev_alone(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    before = await index.everything(without={"record": ["rev"], "actor_sync": ["repoRev", "commitCid"]})
    await index.apply(make.update(ALICE, "a", ONE, 5))
    assert await index.everything(without={"record": ["rev"], "actor_sync": ["repoRev", "commitCid"]}) == before
    assert await index.rows("record", "rev") == [rev(5)]


async def test_a_version_that_breaks_its_lexicon_takes_the_older_one_with_it(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    await index.apply(make.update(ALICE, "a", {"$type": POST, "text": 5}, 2))
    assert await index.rows("record", "uri") == await index.rows("post", "uri") == []
    await index.apply(make.update(ALICE, "a", TWO, 3))
    assert await index.rows("post", "text") == ["two"]


async def test_a_takedown_and_tags_of_the_appview_survive_an_edit(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    await index.pool.execute("""UPDATE bsky.record SET "takedownRef" = 'T', tags = '["x"]'""")
    await index.apply(make.update(ALICE, "a", TWO, 2))
    assert await index.rows("record", "cid", "takedownRef", "tags") == [(cid(TWO), "T", '["x"]')]


async def test_rows_that_the_appview_wrote_have_the_lowest_rev(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    await index.pool.execute("UPDATE bsky.record SET rev = NULL")
    await index.apply(make.update(ALICE, "a", TWO, 2))
    assert await index.rows("record", "cid", "rev") == [(cid(TWO), rev(2))]


def everything_that_happens() -> list[StreamEvent]:
    """A little of all: records that stay, change, go, come back, meet and are refused."""
    return [
        make.identity(ALICE, 0, "alice.test"),
        make.account(ALICE, 0, active=True),
        make.create(ALICE, "self", make.profile("Alice"), 1),
        make.update(ALICE, "self", make.profile("Alice!"), 2),
        make.create(BOB, "b", ONE, 2),
        make.create(ALICE, "a", make.reply(BOBS), 3),
        make.create(ALICE, "q", make.quote(BOBS), 4),
        make.create(ALICE, "l", make.like(BOBS), 5),
        make.create(CAROL, "l", make.like(BOBS), 5),
        make.create(CAROL, "m", make.like(BOBS), 6),
        make.delete(CAROL, LIKE, "l", 7),
        make.create(CAROL, "r", make.repost(BOBS), 8),
        make.create(CAROL, "f", make.follow(ALICE), 9),
        make.create(BOB, "f", make.follow(ALICE), 9),
        make.delete(BOB, FOLLOW, "f", 10),
        make.create(DAN, "x", {"$type": POST, "text": 5}, 11),
        make.create(DAN, "n", make.post("a\x00"), 12),
        make.delete(ALICE, POST, "gone", 13),
        make.create(ALICE, "gone", ONE, 12),
        *snapshot(DAN, {(POST, "s"): ONE, (POST, "x"): None}, 14),
        make.account(DAN, 20, active=False, status="suspended"),
    ]


async def test_a_replay_of_everything_changes_nothing(index: Index) -> None:
    events = everything_that_happens()
    await index.apply_each(events)
    before = await index.everything()
    await index.apply_each(events)
    await index.apply(*events)
    await index.apply_each(events[::-1])
    assert await index.everything() == before


# counts


COUNTED = {
    "likes": (make.like(BOBS), LIKE, "post_agg", "likeCount", BOBS),
    "reposts": (make.repost(BOBS), REPOST, "post_agg", "repostCount", BOBS),
    "replies": (make.reply(BOBS), POST, "post_agg", "replyCount", BOBS),
    "quotes": (make.quote(BOBS), POST, "post_agg", "quoteCount", BOBS),
    "followers": (make.follow(BOB), FOLLOW, "profile_agg", "followersCount", BOB),
    "follows": (make.follow(BOB), FOLLOW, "profile_agg", "followsCount", ALICE),
    "posts": (make.post(), POST, "profile_agg", "postsCount", ALICE),
}


@pytest.mark.parametrize("what", COUNTED)
async def test_counts_follow_the_rows_that_come_and_go(what: str, index: Index) -> None:
    value, collection, table, column, key = COUNTED[what]
    alices, deletion = make.create(ALICE, "x", value, 1), make.delete(ALICE, collection, "x", 3)
    await index.apply(alices)
    assert await index.count(table, column, key) == 1
    await index.apply(alices)
    assert await index.count(table, column, key) == 1
    await index.apply(deletion)
    assert await index.count(table, column, key) == 0
    await index.apply(alices, deletion)
    assert await index.count(table, column, key) == 0
    await index.apply(make.create(ALICE, "x", value, 4))
    assert await index.count(table, column, key) == 1


@pytest.mark.parametrize("what", [name for name in COUNTED if name not in ("follows", "posts")])
async def test_counts_are_of_everybody(what: str, index: Index) -> None:
    value, collection, table, column, key = COUNTED[what]
    await index.apply(*(make.create(who, "x", value, 1) for who in (ALICE, CAROL, DAN)))
    await index.apply(make.delete(CAROL, collection, "x", 2))
    assert await index.count(table, column, key) == 2


@pytest.mark.parametrize("what", COUNTED)
async def test_what_came_and_went_in_one_batch_leaves_a_zero(what: str, index: Index) -> None:
    value, collection, table, column, key = COUNTED[what]
    await index.apply(make.create(ALICE, "x", value, 1), make.delete(ALICE, collection, "x", 2))
    assert await index.count(table, column, key) == 0


@pytest.mark.parametrize("what", COUNTED)
async def test_what_came_after_its_delete_leaves_a_zero(what: str, index: Index) -> None:
    value, collection, table, column, key = COUNTED[what]
    await index.apply(make.delete(ALICE, collection, "x", 2))
    assert await index.count(table, column, key) is None
    await index.apply(make.create(ALICE, "x", value, 1))
    assert await index.count(table, column, key) == 0


async def test_an_edit_moves_the_count_from_the_old_subject_to_the_new(index: Index) -> None:
    other = uri(CAROL, POST, "c")
    await index.apply(make.create(ALICE, "x", make.like(BOBS), 1))
    await index.apply(make.update(ALICE, "x", make.like(other), 2))
    assert await index.count("post_agg", "likeCount", BOBS) == 0
    assert await index.count("post_agg", "likeCount", other) == 1


async def test_a_count_is_never_below_zero(index: Index) -> None:
    """Rows that the AppView wrote may be there without being counted."""
    await index.apply(make.create(ALICE, "x", make.like(BOBS), 1))
    await index.pool.execute("DELETE FROM bsky.post_agg")
    await index.apply(make.delete(ALICE, LIKE, "x", 2))
    assert await index.count("post_agg", "likeCount", BOBS) == 0


async def test_a_bookmark_count_of_the_appviews_stays(index: Index) -> None:
    await index.apply(make.create(ALICE, "x", make.like(BOBS), 1))
    await index.pool.execute('UPDATE bsky.post_agg SET "bookmarkCount" = 7')
    await index.apply(make.create(CAROL, "x", make.like(BOBS), 1))
    assert await index.count("post_agg", "bookmarkCount", BOBS) == 7


# duplicates: records that say the same

SAME = {
    "likes": (make.like(BOBS), "like"),
    "reposts": (make.repost(BOBS), "repost"),
    "follows": (make.follow(BOB), "follow"),
    "blocks": (make.record(BLOCK, subject=BOB), "actor_block"),
    "list items": (make.record(LIST_ITEM, subject=BOB, list=uri(ALICE, LIST, "l")), "list_item"),
    "list blocks": (make.record("app.bsky.graph.listblock", subject=uri(BOB, LIST, "l")), "list_block"),
    "verifications": (
        make.record("app.bsky.graph.verification", subject=BOB, handle="bob.test", displayName="Bob"),
        "verification",
    ),
}


def twice(value: Json, *times: float) -> list[StreamEvent]:
    """The same said again under the keys a, b, c ... at these times."""
    return [make.create(ALICE, "abcdef"[n], value, at) for n, at in enumerate(times)]


async def holder(index: Index, table: str) -> list[str]:
    return [found.rpartition("/")[2] for found in await index.rows(table, "uri")]


async def duplicates(index: Index) -> list[tuple[str, str]]:
    """(key of the duplicate, key of the holder)"""
    rows = await index.rows("duplicate_record", "uri", "duplicateOf")
    return [(one.rpartition("/")[2], of.rpartition("/")[2]) for one, of in rows]


@pytest.mark.parametrize("what", SAME)
@pytest.mark.parametrize("order", ["as it happened", "late", "together"])
async def test_of_records_that_say_the_same_the_earliest_has_the_row(what: str, order: str, index: Index) -> None:
    value, table = SAME[what]
    events = twice(value, 1, 2, 3)
    if order == "together":
        await index.apply(*events)
    else:
        await index.apply_each(events if order == "as it happened" else events[::-1])
    assert await holder(index, table) == ["a"]
    assert await duplicates(index) == [("b", "a"), ("c", "a")]
    assert len(await index.rows("record", "uri")) == 3


@pytest.mark.parametrize("what", SAME)
async def test_when_the_holder_goes_the_next_one_takes_over(what: str, index: Index) -> None:
    value, table = SAME[what]
    await index.apply(*twice(value, 1, 2, 3))
    await index.apply(make.delete(ALICE, value["$type"], "a", 4))
    assert (await holder(index, table), await duplicates(index)) == (["b"], [("c", "b")])
    await index.apply(make.delete(ALICE, value["$type"], "b", 5))
    assert (await holder(index, table), await duplicates(index)) == (["c"], [])
    await index.apply(make.delete(ALICE, value["$type"], "c", 6))
    assert (await holder(index, table), await duplicates(index)) == ([], [])


@pytest.mark.parametrize("what", ["likes", "reposts", "follows"])
async def test_duplicates_count_once(what: str, index: Index) -> None:
    value, collection, table, column, key = COUNTED["followers" if what == "follows" else what]
    await index.apply(*twice(value, 1, 2, 3))
    assert await index.count(table, column, key) == 1
    await index.apply(make.delete(ALICE, collection, "a", 4))
    assert await index.count(table, column, key) == 1
    await index.apply(make.delete(ALICE, collection, "c", 5), make.delete(ALICE, collection, "b", 5))
    assert await index.count(table, column, key) == 0


async def test_a_duplicate_that_goes_changes_nothing_else(index: Index) -> None:
    await index.apply(*twice(make.like(BOBS), 1, 2))
    await index.apply(make.delete(ALICE, LIKE, "b", 3))
    assert (await holder(index, "like"), await duplicates(index)) == (["a"], [])
    assert await index.count("post_agg", "likeCount", BOBS) == 1


async def test_the_same_of_different_people_is_no_duplicate(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", make.like(BOBS), 1), make.create(CAROL, "a", make.like(BOBS), 2))
    assert await index.count("post_agg", "likeCount", BOBS) == 2
    assert await duplicates(index) == []


async def test_an_edit_onto_what_is_said_already_becomes_a_duplicate(index: Index) -> None:
    other = uri(CAROL, POST, "c")
    await index.apply(make.create(ALICE, "a", make.like(BOBS), 1), make.create(ALICE, "b", make.like(other), 2))
    await index.apply(make.update(ALICE, "b", make.like(BOBS), 3))
    assert (await holder(index, "like"), await duplicates(index)) == (["a"], [("b", "a")])
    assert await index.count("post_agg", "likeCount", BOBS) == 1
    assert await index.count("post_agg", "likeCount", other) == 0


async def test_an_edit_away_from_a_duplicate_gets_its_own_row(index: Index) -> None:
    other = uri(CAROL, POST, "c")
    await index.apply(*twice(make.like(BOBS), 1, 2))
    await index.apply(make.update(ALICE, "b", make.like(other), 3))
    assert (await holder(index, "like"), await duplicates(index)) == (["a", "b"], [])


async def test_a_duplicate_repost_shows_in_feeds_all_the_same(index: Index) -> None:
    await index.apply(*twice(make.repost(BOBS), 1, 2))
    assert len(await index.rows("feed_item", "uri")) == 2
    await index.apply(make.delete(ALICE, REPOST, "a", 3))
    assert [found.rpartition("/")[2] for found in await index.rows("feed_item", "uri")] == ["b"]


# snapshots: a whole repo, in parts


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
    assert await index.everything() == before


async def test_a_whole_snapshot_sweeps_the_tombstones_up_to_it(index: Index) -> None:
    await index.apply(make.delete(ALICE, POST, "x", 4), make.delete(ALICE, POST, "y", 6))
    await index.apply(*snapshot(ALICE, {}, 5))
    assert [stone["rev"] for stone in (await index.everything())["sluice.tombstone"]] == [rev(6)]
    await index.apply(make.create(ALICE, "x", ONE, 3), make.create(ALICE, "y", ONE, 3))
    assert await keys(index) == []


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
    await index.apply(*snapshot(ALICE, {(POST, "b"): ONE}, 5))
    assert await index.everything() == before


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
