"""What came too late to be seen in its time: replies below it are judged again, as if all had come in order."""

from collections.abc import Sequence

import pytest

from common.events import StreamEvent
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, DAN, POST, Json, uri
from tests.indexing import Index
from tests.integration.test_indexer_order import outcome

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
