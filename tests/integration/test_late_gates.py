"""What a gate or the end of a post means for others holds, whether the news of it comes late or twice."""

import itertools

import orjson
import pytest

from tests import factories as make
from tests import world_records as records
from tests.factories import ALICE, BOB, CAROL, FOLLOW, LIST_ITEM, POST, Json, uri
from tests.indexing import Index

ROOT = uri(ALICE, POST, "a")
THREAD_GATE, POST_GATE = "app.bsky.feed.threadgate", "app.bsky.feed.postgate"
NO_QUOTES = make.record(POST_GATE, post=ROOT, embeddingRules=[{"$type": f"{POST_GATE}#disableRule"}])
BROKEN = {"$type": POST, "text": "no createdAt"}


async def told(index: Index) -> list[tuple[str, str, str | None]]:
    return await index.rows("notification", "did", "reason", "reasonSubject")


async def test_a_gate_that_came_late_takes_back_what_a_quote_has_told(index: Index) -> None:
    quote = make.create(BOB, "q", make.quote(ROOT), 2)
    await index.apply_each([make.create(ALICE, "a", make.post(), 0), quote])
    assert await told(index) == [(ALICE, "quote", ROOT)]
    await index.apply(make.create(ALICE, "a", NO_QUOTES, 1))
    assert await index.rows("post", "uri", "violatesEmbeddingRules") == [(ROOT, None), (quote.uri, True)]
    assert await told(index) == []


async def test_whose_quote_is_taken_back_hears_of_the_reply_that_it_is_too(index: Index) -> None:
    both: Json = make.reply(ROOT) | {"embed": make.quote(ROOT)["embed"]}
    await index.apply_each([make.create(ALICE, "a", make.post(), 0), make.create(BOB, "q", both, 2)])
    await index.apply(make.create(ALICE, "a", NO_QUOTES, 1))
    assert await told(index) == [(ALICE, "reply", ROOT)]


async def test_a_late_gate_finds_a_quote_whose_own_clock_is_behind(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", make.post(), 0), make.create(BOB, "q", make.quote(ROOT, at=-60), 2))
    await index.apply(make.create(ALICE, "a", NO_QUOTES, 1))
    assert (uri(BOB, POST, "q"), True) in await index.rows("post", "uri", "violatesEmbeddingRules")


async def test_a_gate_that_came_late_takes_back_what_went_above_a_hidden_reply(index: Index) -> None:
    hidden, below = uri(BOB, POST, "b"), uri(CAROL, POST, "c")
    await index.apply(
        make.create(ALICE, "a", make.post(), 0),
        make.create(BOB, "b", make.reply(ROOT), 1),
        make.create(CAROL, "c", make.reply(hidden, ROOT), 3),
    )
    about_below = [row for row in await index.rows("notification", "did", "recordUri") if row[1] == below]
    assert about_below == [(ALICE, below), (BOB, below)]
    await index.apply(make.create(ALICE, "a", make.record(THREAD_GATE, post=ROOT, hiddenReplies=[hidden]), 2))
    assert [row for row in await index.rows("notification", "did", "recordUri") if row[1] == below] == [(BOB, below)]


async def test_a_post_that_breaks_its_lexicon_takes_its_reposts_from_the_feeds(index: Index) -> None:
    repost = make.create(BOB, "r", make.repost(ROOT), 1)
    await index.apply(make.create(ALICE, "a", make.post(), 0), repost)
    await index.apply(make.update(ALICE, "a", BROKEN, 2))
    assert await index.rows("feed_item", "uri") == []


async def test_a_post_that_held_nothing_ends_when_it_broke_not_when_it_was_deleted(index: Index) -> None:
    await index.apply_each(
        [
            make.create(ALICE, "a", make.post(), 0),
            make.update(ALICE, "a", BROKEN, 1),
            make.create(BOB, "r", make.repost(ROOT), 2),
            make.create(BOB, "b", make.reply(ROOT), 2),
            make.delete(ALICE, POST, "a", 3),
            make.create(BOB, "c", make.reply(ROOT), 2.5),
        ]
    )
    assert await index.rows("feed_item", "type") == ["post", "post", "repost"]
    assert await index.rows("post", "invalidReplyRoot") == [True, True]


async def test_a_gate_that_came_and_went_after_a_reply_never_held_for_it(index: Index) -> None:
    """Not even when the reply is settled once more."""
    gate = make.record(THREAD_GATE, post=uri(ALICE, POST, "root"), allow=[])
    events = [
        make.create(ALICE, "root", make.post(), 1),
        make.create(BOB, "reply", make.reply(uri(ALICE, POST, "root")), 2),
        make.create(ALICE, "root", gate, 3),
        make.delete(ALICE, THREAD_GATE, "root", 4),
    ]
    await index.apply_each(events)
    before = await index.everything()
    await index.apply(events[0])
    assert await index.everything() == before
    assert await index.rows("post", "uri", "violatesThreadGate") == [
        (uri(ALICE, POST, "root"), None),
        (uri(BOB, POST, "reply"), None),
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_a_gate_holds_from_its_writing_to_its_end_in_whatever_order_that_comes(
    order: tuple[int, ...], index: Index
) -> None:
    """Two lives of one gate, and a reply before, under, between and after them."""
    nobody = make.record(THREAD_GATE, post=ROOT, allow=[])
    gates = [
        [make.create(ALICE, "a", nobody, 2), make.delete(ALICE, THREAD_GATE, "a", 4)],
        [make.create(ALICE, "a", nobody, 6), make.delete(ALICE, THREAD_GATE, "a", 8)],
        [make.create(BOB, f"r{time}", make.reply(ROOT), time) for time in (1, 3, 5, 7, 9)],
    ]
    await index.apply(make.create(ALICE, "a", make.post(), 0))
    for part in order:
        await index.apply_each(reversed(gates[part]))
    assert await forbidden(index) == {uri(BOB, POST, "r3"), uri(BOB, POST, "r7")}


def gated(rule: str, **more: str) -> Json:
    return make.record(THREAD_GATE, post=ROOT, allow=[{"$type": f"{THREAD_GATE}#{rule}", **more}])


LIST = uri(ALICE, "app.bsky.graph.list", "l")
ON_IT = make.record(LIST_ITEM, list=LIST, subject=BOB)
TIES = {
    "a follow": ("followerRule", {}, make.create(BOB, "t", make.follow(ALICE), 1), make.delete(BOB, FOLLOW, "t", 4)),
    "the author's follow": (
        *("followingRule", {}),
        *(make.create(ALICE, "t", make.follow(BOB), 1), make.delete(ALICE, FOLLOW, "t", 4)),
    ),
    "a list": (
        *("listRule", {"list": LIST}),
        *(make.create(ALICE, "t", ON_IT, 1), make.delete(ALICE, LIST_ITEM, "t", 4)),
    ),
}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("name", TIES)
async def test_a_tie_that_ended_lets_in_who_replied_before(name: str, order: tuple[int, ...], index: Index) -> None:
    """One reply before and one after it ended; in whatever order all that is told."""
    rule, more, came, went = TIES[name]
    replies = [make.create(BOB, f"r{time}", make.reply(ROOT, at=time), time) for time in (2, 5)]
    parts = [[came, went], replies, [make.create(ALICE, "a", gated(rule, **more), 0)]]
    await index.apply(make.create(ALICE, "a", make.post(), 0))
    for part in order:
        await index.apply_each(parts[part])
    assert await forbidden(index) == {uri(BOB, POST, "r5")}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("name", TIES)
async def test_repos_that_are_fetched_hours_after_one_another_tell_who_was_let_in(
    name: str, order: tuple[int, ...], index: Index
) -> None:
    """One reply says that it is older than the gate, one is younger than that, and one younger than the tie, too."""
    rule, more, tie, _ = TIES[name]
    gate, made = gated(rule, **more) | {"createdAt": make.moment(1)}, {"createdAt": make.moment(3)}
    tied = (tie.collection, "t"), orjson.loads(bytes(tie.record)) | made
    replies = {(POST, f"r{time}"): make.reply(ROOT, at=time) for time in (0, 2, 4)}
    repos = [(ALICE, {(POST, "a"): make.post(), (THREAD_GATE, "a"): gate}), (BOB, replies), (tie.did, dict([tied]))]
    for hour, number in enumerate(order):
        who, told = repos[number]
        parts = make.snapshot(who, told, 60, read_at=3600 * (1 + hour))
        await index.apply(*parts[:-1])  # not the end: one repo comes in two parts here
    assert await forbidden(index) == {uri(BOB, POST, "r2")}


async def test_a_live_event_dates_what_a_backfill_brought_earlier_or_later(index: Index) -> None:
    follow = make.follow(BOB, at=5)
    await index.apply(*make.snapshot(ALICE, {(FOLLOW, "f"): follow}, 60, read_at=90))
    assert await index.rows("follow", "indexedAt", "sortAt") == [(make.moment(5), make.moment(5))]
    await index.apply(make.create(ALICE, "f", follow, 7))
    assert await index.rows("follow", "indexedAt", "sortAt") == [(make.moment(7), make.moment(5))]
    await index.apply(*make.snapshot(ALICE, {(FOLLOW, "f"): follow}, 70, read_at=95))
    assert await index.rows("follow", "indexedAt") == [make.moment(7)]


FIRST_DAY = "0001-01-01T00:00:00.000Z"


async def test_what_ends_as_it_is_dated_was_there_since_then(index: Index) -> None:
    """A gate that a backfill takes for younger than the replies, and one batch with its live event and its end."""
    gate = make.record(THREAD_GATE, post=ROOT, allow=[]) | {"createdAt": make.moment(60)}
    await index.apply(make.create(ALICE, "a", make.post(), 0), make.create(BOB, "b", make.reply(ROOT), 2))
    await index.apply(*make.snapshot(ALICE, {(POST, "a"): make.post(), (THREAD_GATE, "a"): gate}, 5))
    assert await forbidden(index) == set()
    await index.apply(make.create(ALICE, "a", gate, 1), make.delete(ALICE, THREAD_GATE, "a", 7))
    assert await forbidden(index) == {uri(BOB, POST, "b")}


async def test_a_follow_of_the_first_day_of_the_calendar_is_taken(index: Index) -> None:
    value = make.follow(BOB) | {"createdAt": FIRST_DAY}
    await index.apply(make.create(ALICE, "f", value, 1, time=FIRST_DAY))
    assert await index.rows("follow", "indexedAt") == [FIRST_DAY]


@pytest.mark.parametrize("said", ["0000-12-31T23:59:59.999Z", "0000-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
async def test_an_age_that_cannot_be_is_that_of_the_backfill(said: str, index: Index) -> None:
    posted = make.post() | {"createdAt": said}
    await index.apply(*make.snapshot(ALICE, {(POST, "p"): posted}, 60, read_at=90))
    assert await index.rows("post", "indexedAt") == [make.moment(90)]


async def test_whom_a_root_once_mentioned_its_gate_lets_in_far_below(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", gated("mentionRule"), 0), make.update(ALICE, "a", make.post(), 20))
    above, replies = ROOT, set()
    for n in range(7):
        await index.apply(make.create(BOB, f"r{n}", make.reply(above, ROOT), 1 + n))
        above = uri(BOB, POST, f"r{n}")
        replies.add(above)
    assert await forbidden(index) == replies
    await index.apply(make.create(ALICE, "a", records.post(lambda options: options[0], [], [BOB], None), 0))
    assert await forbidden(index) == set()


async def forbidden(index: Index) -> set[str]:
    return {post for post, violates in await index.rows("post", "uri", "violatesThreadGate") if violates}


async def test_a_gate_is_beside_its_post_whatever_its_author_is_called(index: Index) -> None:
    author = "did:web:example.threadgate"
    await index.apply(make.create(author, "a", make.post(), 1))
    await index.apply(make.create(author, "a", make.record("app.bsky.feed.threadgate", post=uri(author, POST, "a")), 2))
    assert await index.rows("post", "hasThreadGate") == [True]
