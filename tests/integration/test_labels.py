"""Labels: of each the newest stands in its row, withdrawn ones included, whatever came first."""

import asyncio
import itertools

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from common.events import LABELS_FIELD, Label, LabelEvent, encode_event
from common.streams import LABEL_LIVE, StreamConsumer
from indexer.work import LabelWork
from indexer.worker import Indexer
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, LABELER, POST, label, labels, moment, uri
from tests.indexing import Index
from tests.waiting import until

BOBS = uri(BOB, POST, "b")
SPAM = label(BOBS, "spam", 1)
WITHDRAWN = label(BOBS, "spam", 2, neg=True)
AGAIN = label(BOBS, "spam", 3)


async def standing(index: Index) -> list[tuple[str, bool, str]]:
    """(value, whether it is withdrawn, when it was said)"""
    return await index.rows("label", "val", "neg", "cts")


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


async def test_of_two_words_of_one_moment_the_one_that_was_sent_later_counts(index: Index) -> None:
    said, withdrawn = labels(SPAM, seq=4), labels(label(BOBS, "spam", 1, neg=True), seq=5)
    await index.apply_labels(withdrawn, said)
    assert await standing(index) == [("spam", True, moment(1))]


async def test_labels_differ_by_who_says_what_of_which_version(index: Index) -> None:
    others = [
        label(BOBS, "rude", 1),
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


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"indexer_labels_{name}_total") or 0.0


async def test_labels_on_the_stream_are_applied_counted_and_acked(redis: Redis, index: Index) -> None:
    poison = encode_event(labels(label(ALICE, "a\x00b", 1)))
    for entry in (encode_event(labels(SPAM)), b"{", poison, encode_event(labels(WITHDRAWN))):
        await redis.xadd(LABEL_LIVE, {LABELS_FIELD: entry})
    before = {name: counted(name) for name in ("processed", "added", "removed")}
    consumer = StreamConsumer(redis, LABEL_LIVE, "label_group", "indexer_1", field=LABELS_FIELD, batch_size=1)
    indexer = Indexer(consumer, LabelWork(index.database), index.database, ahead=1)
    task = asyncio.create_task(indexer.run(asyncio.Event()))

    async def is_drained() -> bool:
        return task.done() or not await redis.xlen(LABEL_LIVE)

    await until(is_drained)
    assert not task.done()
    task.cancel()
    assert await standing(index) == [("spam", True, moment(2))]
    letters = await index.pool.fetch("SELECT reason, sqlstate, payload FROM sluice_bsky.dead_letter ORDER BY id")
    assert [tuple(letter) for letter in letters] == [
        ("bad_entry", "", b"{"),
        ("refused_by_postgres", "22021", poison),
    ]
    assert {name: counted(name) - before[name] for name in before} == {"processed": 2, "added": 1, "removed": 1}
