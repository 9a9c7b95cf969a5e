"""Of records that say the same one has a row: the earliest, whatever came first; the others wait for its place."""

import pytest

from common.events import StreamEvent
from tests import factories as make
from tests.factories import (
    ALICE,
    BLOCK,
    BOB,
    CAROL,
    FOLLOW,
    LIKE,
    LIST,
    LIST_ITEM,
    POST,
    REPOST,
    Json,
    uri,
)
from tests.indexing import Index

BOBS = uri(BOB, POST, "b")
ONE, TWO = make.post("one"), make.post("two")

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
    """The same said again at these times, under keys that sort the other way round: c, b, a."""
    return [make.create(ALICE, "cba"[n], value, at) for n, at in enumerate(times)]


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
    assert await holder(index, table) == ["c"]
    assert await duplicates(index) == [("a", "c"), ("b", "c")]
    assert len(await index.rows("record", "uri")) == 3


@pytest.mark.parametrize("what", SAME)
async def test_when_the_holder_goes_the_next_one_takes_over(what: str, index: Index) -> None:
    value, table = SAME[what]
    await index.apply(*twice(value, 1, 2, 3))
    await index.apply(make.delete(ALICE, value["$type"], "c", 4))
    assert (await holder(index, table), await duplicates(index)) == (["b"], [("a", "b")])
    await index.apply(make.delete(ALICE, value["$type"], "b", 5))
    assert (await holder(index, table), await duplicates(index)) == (["a"], [])
    await index.apply(make.delete(ALICE, value["$type"], "a", 6))
    assert (await holder(index, table), await duplicates(index)) == ([], [])


COUNTED = {
    "likes": (LIKE, "post_agg", "likeCount", BOBS),
    "reposts": (REPOST, "post_agg", "repostCount", BOBS),
    "follows": (FOLLOW, "profile_agg", "followersCount", BOB),
}


@pytest.mark.parametrize("what", COUNTED)
async def test_duplicates_count_once(what: str, index: Index) -> None:
    (value, _), (collection, table, column, key) = SAME[what], COUNTED[what]
    await index.apply(*twice(value, 1, 2, 3))
    assert await index.count(table, column, key) == 1
    await index.apply(make.delete(ALICE, collection, "c", 4))
    assert await index.count(table, column, key) == 1
    await index.apply(make.delete(ALICE, collection, "a", 5), make.delete(ALICE, collection, "b", 5))
    assert await index.count(table, column, key) == 0


async def test_a_duplicate_that_goes_changes_nothing_else(index: Index) -> None:
    await index.apply(*twice(make.like(BOBS), 1, 2))
    await index.apply(make.delete(ALICE, LIKE, "b", 3))
    assert (await holder(index, "like"), await duplicates(index)) == (["c"], [])
    assert await index.count("post_agg", "likeCount", BOBS) == 1


@pytest.mark.parametrize("collection", [LIKE, REPOST])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_another_version_of_the_same_post_is_the_same_subject(
    collection: str, order: tuple[int, int], index: Index
) -> None:
    subjects = [{"uri": BOBS, "cid": make.cid(version)} for version in ("first", "second")]
    events = [
        make.create(ALICE, "ba"[n], make.record(collection, subject=subject), n + 1)
        for n, subject in enumerate(subjects)
    ]
    await index.apply_each([events[n] for n in order])
    table = collection.rpartition(".")[2]
    assert await index.rows(table, "subjectCid") == [make.cid("first")]
    assert (await holder(index, table), await duplicates(index)) == (["b"], [("a", "b")])


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
    assert (await holder(index, "like"), await duplicates(index)) == (["b", "c"], [])


async def test_a_duplicate_repost_shows_in_feeds_all_the_same(index: Index) -> None:
    await index.apply(*twice(make.repost(BOBS), 1, 2))
    assert len(await index.rows("feed_item", "uri")) == 2
    await index.apply(make.delete(ALICE, REPOST, "c", 3))
    assert [found.rpartition("/")[2] for found in await index.rows("feed_item", "uri")] == ["b"]


TELLS = {"likes": "like", "reposts": "repost", "follows": "follow"}


@pytest.mark.parametrize("what", TELLS)
async def test_a_duplicate_tells_nobody_until_it_takes_over(what: str, index: Index) -> None:
    (value, _), collection = SAME[what], COUNTED[what][0]
    await index.apply_each(twice(value, 1, 2))
    assert await told(index) == [("c", TELLS[what])]
    await index.apply(make.update(ALICE, "c", _about_carol(value), 3))
    assert await told(index) == [("b", TELLS[what]), ("c", TELLS[what])]
    await index.apply(make.delete(ALICE, collection, "b", 4), make.delete(ALICE, collection, "c", 4))
    assert await told(index) == []


async def told(index: Index) -> list[tuple[str, str]]:
    """(key of the record, reason) of each notification"""
    rows = await index.rows("notification", "recordUri", "reason")
    return sorted((of.rpartition("/")[2], reason) for of, reason in rows)


def _about_carol(value: Json) -> Json:
    subject = CAROL if isinstance(value["subject"], str) else make.ref(uri(CAROL, POST, "c"))
    return value | {"subject": subject}
