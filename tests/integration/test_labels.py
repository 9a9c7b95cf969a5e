"""Labels: of each the newest stands in its row, withdrawn ones included, whatever came first."""

import asyncio
import hashlib
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from common.events import LABELS_FIELD, Label, LabelEvent, encode_event
from common.streams import LABEL_LIVE, StreamConsumer
from indexer.work import LabelWork
from indexer.worker import Indexer
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, LABELER, POST, label, labels, moment, uri
from tests.indexing import Index
from tests.samples import moved, sample
from tests.waiting import until

BOBS = uri(BOB, POST, "b")
SPAM = label(BOBS, "spam", 1)
WITHDRAWN = label(BOBS, "spam", 2, neg=True)
AGAIN = label(BOBS, "spam", 3)
RUDE = label(BOBS, "rude", 1)


async def standing(index: Index) -> list[tuple[str, bool, str]]:
    """(value, whether it is withdrawn, when it was said)"""
    return await index.rows("label", "val", "neg", "cts")


async def letters(index: Index) -> list[tuple[str, str, bytes]]:
    """(reason, what is wrong, the entry)"""
    rows = await index.pool.fetch("SELECT reason, error, payload FROM sluice_bsky.dead_letter ORDER BY id")
    return [tuple(row) for row in rows]


async def test_a_label_stands_in_its_row(index: Index) -> None:
    until_then = label(ALICE, "temp", 1, cid=make.cid("x"), exp=moment(3600))
    await index.apply_labels(labels(SPAM, until_then))
    columns = ("src", "uri", "cid", "val", "neg", "cts", "exp")
    assert await index.rows("label", *columns) == [
        (LABELER, BOBS, "", "spam", False, moment(1), None),
        (LABELER, ALICE, make.cid("x"), "temp", False, moment(1), moment(3600)),
    ]


async def test_a_withdrawn_label_stays_as_withdrawn(index: Index) -> None:
    await index.apply_labels(labels(SPAM))
    await index.apply_labels(labels(WITHDRAWN))
    assert await standing(index) == [("spam", True, moment(2))]


async def test_a_withdrawal_of_what_was_never_said_is_kept(index: Index) -> None:
    await index.apply_labels(labels(WITHDRAWN))
    await index.apply_labels(labels(SPAM))
    assert await standing(index) == [("spam", True, moment(2))]


@pytest.mark.parametrize("order", list(itertools.permutations([SPAM, WITHDRAWN, AGAIN])))
async def test_the_newest_word_counts_whatever_came_first(order: tuple[Label, ...], index: Index) -> None:
    for said in order:
        await index.apply_labels(labels(said))
    assert await standing(index) == [("spam", False, moment(3))]
    await index.apply_labels(*(labels(said, seq=seq) for seq, said in enumerate(order, 10)))
    assert await standing(index) == [("spam", False, moment(3))]


SAID_AT_ONCE = [labels(label(BOBS, "spam", 1, neg=neg), seq=seq) for seq, neg in enumerate((None, True, None, True), 4)]


@pytest.mark.parametrize("sizes", [(4,), (1, 1, 1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("order", list(itertools.permutations(SAID_AT_ONCE)))
async def test_of_two_words_of_one_moment_the_one_that_was_sent_later_counts(
    order: tuple[LabelEvent, ...], sizes: tuple[int, ...], index: Index
) -> None:
    for batch in make.cut(order, sizes):
        await index.apply_labels(*batch)
    assert await standing(index) == [("spam", True, moment(1))]


async def test_of_two_words_of_one_moment_and_frame_the_last_counts(index: Index) -> None:
    said, withdrawn = SPAM, label(BOBS, "spam", 1, neg=True)
    for frame in (labels(said, withdrawn, seq=4), labels(withdrawn, said, seq=3)):
        await index.apply_labels(frame)
    assert await standing(index) == [("spam", True, moment(1))]


def at(cts: str, **fields: Any) -> Label:
    return Label(src=LABELER, uri=BOBS, val="spam", cts=cts, **fields)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2025-03-01T12:00:00Z", "2025-03-01T12:00:00.100Z"),  # as text the other way round
        ("2025-03-01T12:00:00.9Z", "2025-03-01T12:00:01Z"),
        ("2025-03-01T23:00:00+12:00", "2025-03-01T12:00:00Z"),
        ("2025-03-01T12:00:00.000Z", "2025-03-01T09:00:00.000-05:00"),
        ("2025-03-01 12:00:00 UTC", "2025-03-01T12:00:00.100Z"),  # an ingester that is not ours
        ("2025-03-01T12:00:00.100Z", "2025-03-01 12:00:00.200 UTC"),
    ],
)
async def test_times_are_compared_as_times(older: str, newer: str, index: Index) -> None:
    withdrawn, said = labels(at(newer, neg=True), seq=1), labels(at(older), seq=2)
    for order in ((withdrawn, said), (said, withdrawn)):
        await index.apply_labels(*order)
        await index.apply_labels(said)
        assert await index.rows("label", "neg") == [True]


@pytest.mark.parametrize(
    ("written", "stands"),
    [
        ("2025-03-01T12:00:00.1239+09:00", "2025-03-01T03:00:00.123Z"),
        ("2025-03-01 12:00:00 UTC", "2025-03-01T12:00:00.000Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
    ],
)
async def test_times_stand_in_the_form_that_the_appview_can_read(written: str, stands: str, index: Index) -> None:
    await index.apply_labels(labels(at(written, exp=written)))
    assert await index.rows("label", "cts", "exp") == [(stands, stands)]
    as_the_appview_does = "SELECT (exp::timestamp > now()) AS applies FROM bsky.label"
    assert await index.pool.fetchval(as_the_appview_does) is (stands > "9999")


@pytest.mark.parametrize("bad", ["never", "", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "2025-03-01 25 UTC"])
async def test_a_time_that_is_none_costs_its_label(bad: str, index: Index) -> None:
    for refused in (at(bad), at(moment(1), exp=bad)):
        await index.apply_labels(labels(refused, RUDE))
    assert await standing(index) == [("rude", False, moment(1))]
    assert [reason for reason, _, _ in await letters(index)] == ["bad_entry"] * 2


TOO_LONG = "at://" + "".join(hashlib.sha512(b"%d" % n).hexdigest() for n in range(50))  # does not shrink


@pytest.mark.parametrize(
    "refused",
    [label(BOBS, "a\x00b", 1), label(f"{BOBS}\x00", "a", 1), label(BOBS, "a", 1, cid="\x00"), label(TOO_LONG, "a", 1)],
)
async def test_a_label_that_cannot_be_stored_costs_none_of_its_siblings(refused: Label, index: Index) -> None:
    frame, processed = labels(RUDE, refused, SPAM, refused), moved("indexer_labels_processed_total")
    await index.apply_labels(frame)
    assert processed() == 4
    assert await standing(index) == [("rude", False, moment(1)), ("spam", False, moment(1))]
    ((reason, error, payload),) = await letters(index)
    assert (reason, payload) == ("not_storable", encode_event(frame))
    assert error.startswith("2 of 4 labels: ")


async def test_a_label_may_be_as_long_as_an_index_can_hold(index: Index) -> None:
    await index.apply_labels(labels(label(TOO_LONG[: 2600 - len(LABELER) - 1], "a", 1)))
    assert await standing(index) == [("a", False, moment(1))]
    assert await letters(index) == []


async def test_labels_differ_by_who_says_what_of_which_version(index: Index) -> None:
    others = [
        RUDE,
        label(ALICE, "spam", 1),
        label(BOBS, "spam", 1, cid=make.cid("x")),
        Label(src=CAROL, uri=BOBS, val="spam", cts=moment(1)),
    ]
    await index.apply_labels(labels(SPAM, *others))
    await index.apply_labels(labels(WITHDRAWN))
    assert [neg for _, neg, _ in await standing(index)].count(True) == 1
    assert len(await standing(index)) == 5


async def test_a_replay_changes_nothing(index: Index) -> None:
    first = labels(SPAM, label(ALICE, "temp", 1, exp=moment(9)), seq=1)
    events = [first, labels(WITHDRAWN, seq=2), labels(AGAIN, seq=3)]
    await index.apply_labels(*events)
    before = await index.everything()
    for event in (*events, *events[::-1]):
        await index.apply_labels(event)
    assert await index.everything() == before


async def test_a_new_expiry_is_taken_over(index: Index) -> None:
    await index.apply_labels(labels(label(ALICE, "temp", 1, exp=moment(9))))
    await index.apply_labels(labels(label(ALICE, "temp", 2)))
    assert await index.rows("label", "exp") == [None]


async def test_an_event_without_labels_does_no_harm(index: Index) -> None:
    await index.apply_labels(LabelEvent(seq=1, labels=()))
    assert await standing(index) == []


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[LabelEvent], list[list[LabelEvent]]]:
    """What a labeler sent, and the batches in which it arrives: shuffled, and some of it twice."""
    said = st.builds(
        label,
        st.sampled_from([BOBS, ALICE]),
        st.sampled_from(["spam", "rude"]),
        st.integers(1, 2),
        neg=st.sampled_from([None, False, True]),
        exp=st.sampled_from([None, moment(60)]),
    )
    frames = draw(st.lists(st.lists(said, min_size=1, max_size=3), min_size=1, max_size=6))
    sent = [labels(*them, seq=seq) for seq, them in enumerate(frames, 1)]
    order = draw(st.permutations([*sent, *draw(st.lists(st.sampled_from(sent), max_size=3))]))
    return sent, make.cut(order, draw(st.lists(st.integers(1, 4), max_size=6)))


@settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(arrived=arrivals())
async def test_labels_end_the_same_in_any_order(
    index: Index, arrived: tuple[list[LabelEvent], list[list[LabelEvent]]]
) -> None:
    sent, batches = arrived
    await index.pool.execute("DELETE FROM bsky.label; DELETE FROM sluice_bsky.label_version")
    for batch in batches:
        await index.apply_labels(*batch)
    last = {}  # the labeler's own view: the later word of each moment, the latest moment
    for said in sorted((said for event in sent for said in event.labels), key=lambda said: said.cts):
        last[said.uri, said.val] = (said.uri, said.val, bool(said.neg), said.cts, said.exp)
    assert await index.rows("label", "uri", "val", "neg", "cts", "exp") == sorted(last.values(), key=repr)


async def test_indexers_that_meet_at_the_same_labels_leave_the_newest(index: Index) -> None:
    subjects = [uri(BOB, POST, str(number)) for number in range(40)]
    for turn in range(1, 11):
        batches = [
            labels(*(label(about, "spam", turn, neg=neg) for about in order), seq=seq)
            for seq, neg, order in ((3, True, subjects), (2, None, subjects[::-1]), (1, None, subjects))
        ]
        await asyncio.gather(*(index.apply_labels(batch) for batch in batches))
        assert await index.rows("label", "neg", "cts") == [(True, moment(turn))] * len(subjects)


def counted() -> tuple[float, float]:
    """Labels and errors."""
    return sample("indexer_labels_processed_total"), sample("indexer_errors_total")


async def test_labels_on_the_stream_are_applied_counted_and_acked(redis: Redis, index: Index) -> None:
    poison = encode_event(labels(label(ALICE, "a\x00b", 1), RUDE))
    for entry in (encode_event(labels(SPAM)), b"{", poison, encode_event(labels(WITHDRAWN))):
        await redis.xadd(LABEL_LIVE, {LABELS_FIELD: entry})
    before = counted()
    consumer = StreamConsumer(redis, LABEL_LIVE, "label_group", "indexer_1", field=LABELS_FIELD, batch_size=1)
    indexer = Indexer(consumer, LabelWork(index.database), index.database, lanes=1)
    task = asyncio.create_task(indexer.run(asyncio.Event()))

    async def is_drained() -> bool:
        return task.done() or not await redis.xlen(LABEL_LIVE)

    await until(is_drained)
    assert not task.done()
    task.cancel()
    assert await standing(index) == [("rude", False, moment(1)), ("spam", True, moment(2))]
    assert [(reason, payload) for reason, _, payload in await letters(index)] == [
        ("bad_entry", b"{"),
        ("not_storable", poison),
    ]
    assert counted() == (before[0] + 4, before[1] + 2)
