"""What an edit does beside changing its rows: who hears of it, and of what."""

import pytest

from common.events import StreamEvent
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, POST, PROFILE, Json, moment, uri
from tests.indexing import Index

BOBS = uri(BOB, POST, "b")
VERIFICATION = "app.bsky.graph.verification"
BROKEN = make.profile("one") | {"displayName": 5}


async def told(index: Index) -> list[tuple[str, str, str]]:
    """(who, why, by which version)"""
    return await index.rows("notification", "did", "reason", "recordCid")


@pytest.mark.parametrize("subject", [BOBS, uri(CAROL, POST, "c")])
async def test_an_edited_like_is_told_of_as_it_is_now(subject: str, index: Index) -> None:
    before, after = make.like(BOBS, at=1), make.like(subject, at=2)
    await index.apply(make.create(ALICE, "l", before, 1))
    assert await told(index) == [(BOB, "like", make.cid(before))]
    await index.apply(make.update(ALICE, "l", after, 2))
    assert await told(index) == [(subject.split("/")[2], "like", make.cid(after))]


def verification(name: str) -> Json:
    return make.record(VERIFICATION, subject=BOB, handle="bob.test", displayName=name)


async def test_an_edited_verification_is_withdrawn_and_given_again(index: Index) -> None:
    before, after = map(make.cid, map(verification, ("Bob", "Bobby")))
    await index.apply(make.create(ALICE, "v", verification("Bob"), 1))
    await index.apply(make.update(ALICE, "v", verification("Bobby"), 2))
    heard = {(BOB, "verified", before), (BOB, "unverified", before), (BOB, "verified", after)}
    assert set(await told(index)) == heard
    await index.apply(make.delete(ALICE, VERIFICATION, "v", 3))
    assert set(await told(index)) == heard | {(BOB, "unverified", after)}
    assert len(await told(index)) == 4


async def test_a_create_of_what_is_there_is_its_newer_version(index: Index) -> None:
    """That it was deleted in between, nobody told us."""
    await index.apply(
        make.create(ALICE, "a", make.post("one"), 1), make.create(CAROL, "l", make.like(uri(ALICE, POST, "a")), 1)
    )
    await index.apply(make.create(ALICE, "a", make.post("two"), 2))
    assert await index.rows("post", "text", "indexedAt") == [("two", moment(2))]
    assert await index.count("profile_agg", "postsCount", ALICE) == 1
    assert await index.rows("like", "subject") == [uri(ALICE, POST, "a")]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2), (2, 1), (3,)], ids=str)
@pytest.mark.parametrize("again", ["one", "two"])
@pytest.mark.parametrize("ended", [make.delete(ALICE, PROFILE, "self", 2), make.update(ALICE, "self", BROKEN, 2)])
async def test_what_is_made_again_is_new_though_it_may_say_the_same(
    ended: StreamEvent, again: str, sizes: tuple[int, ...], index: Index
) -> None:
    events = [make.create(ALICE, "self", make.profile("one"), 1), ended]
    first, *rest = make.cut([*events, make.create(ALICE, "self", make.profile(again), 3)], sizes)
    await index.apply(*first)
    await index.pool.execute('UPDATE bsky.record SET "takedownRef" = \'T\' WHERE "indexedAt" = $1', moment(1))
    for batch in rest:
        await index.apply(*batch)
    assert await index.rows("record", "indexedAt", "takedownRef") == [(moment(3), None)]
    assert await index.rows("profile", "indexedAt") == [moment(3)]
