"""Entries that nobody can store: buried with their bytes, and those beside them are not."""

import asyncio
import random
import time

import msgspec
import pytest
from redis.asyncio import Redis

from common.events import EVENT_FIELD, AccountEvent, encode_event
from common.streams import FIREHOSE_LIVE, StreamConsumer
from indexer.database import DeadLetter
from tests import factories as make
from tests.factories import ALICE, BOB, POST, did, items
from tests.indexers import BOBS, GROUP, add, indexed, letters, posts
from tests.indexing import Index
from tests.samples import moved


async def test_entries_that_mean_nothing_are_buried_with_their_bytes(redis: Redis, index: Index) -> None:
    bad_time = make.create(ALICE, "t", make.post(), 1, time="2025-03-01 12:00")
    bad_rev = make.create(ALICE, "r", make.post(), 1, rev="latest")
    await redis.xadd(FIREHOSE_LIVE, {"other": "x"})
    await indexed(redis, index.pool, b"{", b"\xff\x00", b"", *posts(2), bad_time, bad_rev)
    assert [letter[0] for letter in await letters(index.pool)] == ["bad_entry"] * 6
    payloads = {row[0] for row in await index.pool.fetch("SELECT payload FROM sluice_bsky.dead_letter")}
    fieldless = repr({b"other": b"x"}).encode()
    assert payloads == {fieldless, b"{", b"\xff\x00", b"", encode_event(bad_time), encode_event(bad_rev)}
    assert len(await index.rows("post", "uri")) == 2


@pytest.mark.parametrize(
    "strange",
    [
        {"did": "did:web:a/b"},
        {"did": "did:plc:\x00"},
        {"did": ""},
        {"rkey": "a\x00"},
        {"rkey": "a/b"},
        {"rkey": ".."},
        {"collection": "post"},
        {"collection": POST + "/x"},
    ],
)
async def test_an_event_about_no_record_is_buried_and_stops_nobody(
    redis: Redis, index: Index, strange: dict[str, str]
) -> None:
    events = [
        msgspec.structs.replace(event, **strange)
        for event in (make.create(ALICE, "a", make.post(), 1), make.delete(ALICE, POST, "a", 2))
    ]
    for event in events:
        await indexed(redis, index.pool, event)
    await indexed(redis, index.pool, *posts(1, BOB))
    assert [letter[0] for letter in await letters(index.pool)] == ["bad_entry"] * 2
    assert await index.rows("post", "creator") == [BOB]


async def test_an_entry_that_was_trimmed_away_is_buried_as_nothing(redis: Redis, index: Index) -> None:
    await add(redis, *posts(3))
    consumer = StreamConsumer(redis, FIREHOSE_LIVE, GROUP, "indexer_1", field=EVENT_FIELD, batch_size=10)
    async for _ in consumer.batches(asyncio.Event()):
        break
    await redis.xtrim(FIREHOSE_LIVE, maxlen=1, approximate=False)
    await indexed(redis, index.pool)
    assert len(await letters(index.pool)) == 2
    assert len(await index.rows("post", "uri")) == 1


@pytest.mark.parametrize("value", [make.post("a\x00b"), make.post(tags=["\x00"]), make.profile("\x00")])
async def test_a_nul_in_a_text_is_buried_and_the_rest_of_the_batch_lands(
    redis: Redis, index: Index, value: make.Json
) -> None:
    poison = make.create(BOB, "self", value, 1)
    await indexed(redis, index.pool, *posts(2), poison, *posts(2, start=2))
    assert await letters(index.pool) == [("not_storable", "22021", poison.uri)]
    assert await index.pool.fetchval("SELECT payload FROM sluice_bsky.dead_letter") == encode_event(poison)
    assert len(await index.rows("post", "uri")) == 4
    assert await index.rows("record", "did") == [ALICE] * 4


def too_long_for_an_index(seed: int) -> str:
    """A valid URI of 4 KB that cannot be compressed: more than a B-tree takes."""
    return f"{BOBS}#/{random.Random(seed).randbytes(2000).hex()}{random.Random(-seed).randbytes(2000).hex()}"


async def test_a_culprit_that_postgres_refuses_is_halved_out(redis: Redis, index: Index) -> None:
    culprits = [make.create(BOB, f"c{n}", make.like(too_long_for_an_index(n)), n) for n in range(3)]
    good = posts(40)
    await indexed(redis, index.pool, *good[:7], culprits[0], *good[7:20], *culprits[1:], *good[20:])
    assert sorted(await letters(index.pool)) == [("refused_by_postgres", "54000", event.uri) for event in culprits]
    assert len(await index.rows("post", "uri")) == 40
    assert await index.rows("like", "uri") == []


async def test_a_culprit_costs_the_records_beside_it_nothing_and_their_counts_neither(
    redis: Redis, index: Index
) -> None:
    culprit = make.create(BOB, "c", make.like(too_long_for_an_index(1)), 1)
    likes = [make.create(did(f"fan{n}"), "l", make.like(BOBS), n) for n in range(10)]
    await indexed(redis, index.pool, *likes[:5], culprit, *likes[5:])
    assert await index.count("post_agg", "likeCount", BOBS) == 10


async def test_an_entry_is_buried_once_however_often_it_is_delivered(index: Index) -> None:
    (item,) = items([make.create(ALICE, "a", make.post(), 1)])
    for _ in range(2):
        await index.database.bury(DeadLetter(FIREHOSE_LIVE, item, "refused_by_postgres", "54000", "too long"))
    assert len(await letters(index.pool)) == 1


async def test_a_rev_from_the_future_is_refused(redis: Redis, index: Index) -> None:
    refused = moved("indexer_outcomes_total", outcome="future_rev")
    now = time.time() - make.NOON
    soon = make.create(ALICE, "a", make.post("soon"), now + 60, time=make.moment(1))
    late = make.create(BOB, "b", make.post("late"), now + 3600, time=make.moment(1))
    await indexed(redis, index.pool, soon, late)
    assert await index.rows("post", "text") == ["soon"]
    assert refused() == 1
    await indexed(redis, index.pool, make.create(BOB, "b", make.post("honest"), 1))
    assert await index.rows("post", "text") == ["honest", "soon"]


ODD_TIMES = {
    "2025-10-29T10:11:12.123456789+00:00": "2025-10-29T10:11:12.123Z",
    "2025-03-01T13:00:00+01:00": "2025-03-01T12:00:00.000Z",
    "2024-02-30T00:00:00Z": "2024-03-01T00:00:00.000Z",
}


@pytest.mark.parametrize("time", ODD_TIMES)
async def test_event_times_of_any_form_are_stored_in_one(redis: Redis, index: Index, time: str) -> None:
    gone = AccountEvent(seq=1, time=time, did=BOB, active=False, status="Deleted")
    await indexed(redis, index.pool, make.create(ALICE, "a", make.post(), 1, time=time), gone)
    assert await index.rows("record", "indexedAt") == [ODD_TIMES[time]]
    tables = await index.everything()
    assert tables["sluice.deletion_check"][0]["time"] == ODD_TIMES[time]


async def test_a_time_that_no_calendar_of_ours_has_is_buried(redis: Redis, index: Index) -> None:
    await indexed(redis, index.pool, make.create(ALICE, "a", make.post(), 1, time="0000-01-01T00:00:00Z"))
    assert [letter[0] for letter in await letters(index.pool)] == ["bad_entry"]
