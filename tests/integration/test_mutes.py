"""Who has muted a thread hears of nothing in it, whether its posts come late, are moved or are gone."""

import itertools

import pytest

from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, POST, uri
from tests.indexing import Index

ROOT, REPLY = uri(ALICE, POST, "root"), uri(BOB, POST, "reply")
root = make.create(ALICE, "root", make.post(), 1)
reply = make.create(BOB, "reply", make.reply(ROOT), 2)
like = make.create(CAROL, "like", make.like(REPLY), 3)
below = make.create(CAROL, "below", make.reply(REPLY, ROOT), 4)


@pytest.fixture(autouse=True)
async def muted(index: Index) -> None:
    """Bob has muted the thread that he replied in."""
    await index.pool.execute("INSERT INTO bsky.thread_mute VALUES ($1, $2, '')", ROOT, BOB)


async def told(index: Index) -> list[tuple[str, str]]:
    return await index.rows("notification", "did", "reason")


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
async def test_nothing_is_told_in_whatever_order_it_is_heard_of(order: tuple[int, ...], index: Index) -> None:
    events = [root, reply, like, below]
    await index.apply_each([events[number] for number in order])
    assert await told(index) == [(ALICE, "reply"), (ALICE, "reply")]


async def test_a_post_that_is_gone_was_in_its_thread_all_the_same(index: Index) -> None:
    await index.apply_each([root, reply, make.delete(BOB, POST, "reply", 3), like, below])
    assert await told(index) == []


async def test_a_post_that_is_edited_is_still_in_its_thread(index: Index) -> None:
    await index.apply_each([root, reply, make.update(BOB, "reply", make.post("on its own"), 3), like])
    assert await told(index) == [(ALICE, "reply")] * 0


async def test_others_and_other_threads_are_told_of(index: Index) -> None:
    other = make.create(BOB, "other", make.post(), 1)
    await index.apply_each([make.create(CAROL, "l", make.like(other.uri), 3), other, root])
    await index.apply(make.create(BOB, "l", make.like(ROOT), 3))
    assert await told(index) == [(ALICE, "like"), (BOB, "like")]
