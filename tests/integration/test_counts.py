"""Aggregates move by the rows that come and go, whatever the events that brought them."""

import pytest

from tests import factories as make
from tests.factories import (
    ALICE,
    BOB,
    CAROL,
    DAN,
    FOLLOW,
    LIKE,
    POST,
    REPOST,
    uri,
)
from tests.indexing import Index

BOBS = uri(BOB, POST, "b")
ONE, TWO = make.post("one"), make.post("two")

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
