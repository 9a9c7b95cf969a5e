"""What came too late to be seen in its time: replies below it are judged again, as if all had come in order."""

import asyncio
from collections.abc import Sequence

import pytest

from common.events import StreamEvent
from tests import factories as make
from tests.databases import waits_for_a_lock
from tests.factories import ALICE, BOB, CAROL, DAN, POST, Json, uri
from tests.indexing import Index
from tests.integration.test_indexer_order import outcome
from tests.waiting import until

Row = tuple[str, ...]

GATE = "app.bsky.feed.threadgate"
ROOT, MIDDLE, LAST = uri(ALICE, POST, "root"), uri(BOB, POST, "middle"), uri(CAROL, POST, "last")

root = make.create(ALICE, "root", make.post(), 1)
middle = make.create(BOB, "middle", make.reply(ROOT), 2)
last = make.create(CAROL, "last", make.reply(MIDDLE, ROOT), 5)
lowest = make.create(DAN, "lowest", make.reply(LAST, ROOT), 6)
middle_gone = make.delete(BOB, POST, "middle", 4)
root_gone = make.delete(ALICE, POST, "root", 3)

deep = [
    make.create(CAROL, f"deep{n}", make.reply(uri(CAROL, POST, f"deep{n - 1}") if n else MIDDLE, ROOT), 10 + n)
    for n in range(7)
]

POST_GATE = "app.bsky.feed.postgate"
NOBODY = make.record(GATE, post=ROOT, allow=[])
NO_QUOTES = make.record(POST_GATE, post=ROOT, embeddingRules=[{"$type": f"{POST_GATE}#disableRule"}])
nowhere = make.create(BOB, "nowhere", make.reply(uri(BOB, POST, "unknown"), ROOT), 5)
elsewhere = make.create(BOB, "elsewhere", make.reply(LAST, uri(BOB, POST, "other")), 6)
again = make.create(ALICE, "again", make.reply(LAST, ROOT), 6)

HISTORIES = {
    "a parent was gone": ([root, middle, last, lowest], [middle_gone]),
    "a post above the parent was gone": ([root, middle, last, lowest], [root_gone]),
    "a post above one that went later was gone": (
        [root, middle, last, lowest, make.delete(CAROL, POST, "last", 7)],
        [root_gone],
    ),
    "a post above the parent, which went later, was gone": (
        [root, middle, last, lowest, make.delete(BOB, POST, "middle", 7)],
        [root_gone],
    ),
    "a post far above was gone": ([root, middle, *deep], [middle_gone]),
    "far below what came late one went": ([middle, *deep, make.delete(CAROL, POST, "deep5", 30)], [root]),
    "a gate of a post that went later": (
        [root, make.create(BOB, "quote", make.quote(ROOT), 5), make.delete(ALICE, POST, "root", 8)],
        [make.create(ALICE, "root", NO_QUOTES, 2)],
    ),
    "a gate of a thread in which a reply hangs on nothing": ([root, nowhere], [make.create(ALICE, "root", NOBODY, 2)]),
    "a gate of a thread in which a reply hangs on another": (
        [root, middle, last, elsewhere, make.create(CAROL, "below", make.reply(elsewhere.uri, ROOT), 7)],
        [make.create(ALICE, "root", NOBODY, 2)],
    ),
    "it had stood elsewhere in the thread of its author": (
        [root, middle, last, again, make.delete(ALICE, POST, "again", 9)],
        [make.update(ALICE, "again", make.reply(MIDDLE, ROOT), 8)],
    ),
    "two above were gone": ([root, middle, last, lowest], [middle_gone, root_gone]),
    "all of the thread, from its end": ([lowest, last, middle_gone, middle, root_gone], [root]),
}


@pytest.mark.parametrize("name", HISTORIES)
async def test_replies_are_judged_by_what_was_there(name: str, index: Index) -> None:
    first, late = HISTORIES[name]
    in_order = sorted([*first, *late], key=lambda event: event.seq)
    wanted = await outcome(index, [[event] for event in in_order])
    for arrival in ([*first, *late], [*late, *first]):
        assert await outcome(index, [[event] for event in arrival]) == wanted
        assert await outcome(index, [arrival]) == wanted


async def test_a_reply_below_one_that_was_gone_is_misplaced_and_tells_nobody_above(index: Index) -> None:
    await index.apply(root, middle, last)
    assert await told(index, LAST) == {ALICE, BOB}
    await index.apply(middle_gone)
    assert await told(index, LAST) == set()
    assert dict(await index.rows("post", "uri", "invalidReplyRoot")) == {ROOT: None, LAST: True}


BEFORE = [make.create(BOB, "q", make.quote(ROOT), 2), make.create(BOB, "r", make.repost(ROOT), 2)]
AFTER = [
    make.create(CAROL, "q", make.quote(ROOT), 5),
    make.create(CAROL, "r", make.repost(ROOT), 5),
    make.create(CAROL, "s", make.repost(ROOT), 6),
]


async def pointing_at_root(index: Index) -> set[Row]:
    quotes = await index.rows("quote", "uri", "cid", "subject", "subjectCid", "createdAt", "indexedAt", "sortAt")
    items = await index.rows("feed_item", "uri", "cid", "postUri", "type", "originatorDid", "sortAt")
    return {row for row in (*quotes, *items) if row[2] == ROOT and row[0] != ROOT}


async def test_what_came_after_the_end_of_a_post_is_there_again_once_that_is_known(index: Index) -> None:
    await index.apply_each([root, *BEFORE, *AFTER])
    known = await pointing_at_root(index)
    await index.apply(*make.snapshot(ALICE, {}, 9))
    assert await pointing_at_root(index) == set()
    await index.apply(root_gone)
    came_later = {event.uri for event in AFTER}
    assert await pointing_at_root(index) == {row for row in known if row[0] in came_later}
    assert await index.pool.fetchval("SELECT count(*) FROM sluice_bsky.lost") == len(BEFORE)


async def test_what_went_or_turned_to_another_post_meanwhile_does_not_come_back(index: Index) -> None:
    other = uri(BOB, POST, "other")
    await index.apply_each([root, *AFTER, make.create(BOB, "other", make.post(), 7)])
    await index.apply(*make.snapshot(ALICE, {}, 9))
    await index.apply(make.update(CAROL, "q", make.quote(other), 10), make.delete(CAROL, make.REPOST, "r", 10))
    assert await index.rows("quote", "subject") == [other]
    await index.apply(make.delete(BOB, POST, "other", 11))
    assert await index.pool.fetchval("SELECT count(*) FROM sluice_bsky.lost WHERE uri <> $1", AFTER[2].uri) == 1
    await index.apply(root_gone)
    assert await index.rows("quote", "subject") == []
    assert [row[0] for row in await pointing_at_root(index)] == [uri(CAROL, make.REPOST, "s")]


async def test_what_comes_while_the_end_of_a_post_is_set_right_is_judged_by_it_then(index: Index) -> None:
    await index.apply(root)
    await index.apply(*make.snapshot(ALICE, {}, 9))
    async with asyncio.TaskGroup() as tasks, index.pool.acquire() as other, other.transaction():
        await other.execute("UPDATE sluice_bsky.life SET until = $1 WHERE deleted", make.moment(3))
        tasks.create_task(index.apply(*AFTER))
        await until(lambda: waits_for_a_lock(index.pool))
    assert {row[0] for row in await pointing_at_root(index)} == {event.uri for event in AFTER}


async def test_a_snapshot_judges_what_was_written_after_it_and_had_come_before(index: Index) -> None:
    orders = [[root, middle, last], make.snapshot(BOB, {}, 4)]
    wanted = await outcome(index, orders[::-1])
    assert await outcome(index, orders) == wanted
    assert (LAST, True) in await index.rows("post", "uri", "invalidReplyRoot")


async def told(index: Index, post: str) -> set[str]:
    return {did for did, about in await index.rows("notification", "did", "recordUri") if about == post}


NASTY: Sequence[Json] = ({"since": "\x00"}, {"invalid": "maybe"}, {"parent": "\x00", "root": "\x00"})


@pytest.mark.parametrize("more", NASTY, ids=ascii)
async def test_what_a_gate_that_is_gone_had_said_troubles_nobody(more: Json, index: Index) -> None:
    gate = make.record(GATE, post=ROOT, allow=[{"$type": f"{GATE}#followingRule"}]) | more
    events: list[StreamEvent] = [root, make.create(ALICE, "root", gate, 2), make.delete(ALICE, GATE, "root", 8)]
    await index.apply_each(events)
    await index.apply(make.create(BOB, "below", make.reply(uri(ALICE, GATE, "root"), ROOT), 7))
    await index.apply(make.create(CAROL, "reply", make.reply(ROOT), 6))
    flags = dict(await index.rows("post", "uri", "violatesThreadGate"))
    assert flags[uri(CAROL, POST, "reply")] is True
