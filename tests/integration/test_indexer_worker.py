"""The indexer between a real Redis and a real Postgres: what it acks, what it buries, what stops it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from common.events import EVENT_FIELD, AccountEvent, StreamEvent, encode_event
from common.streams import FIREHOSE_LIVE, StreamConsumer
from indexer.database import Database, DeadLetter
from indexer.migrations import migrate
from indexer.work import EventWork
from indexer.worker import Indexer
from sluice.server import free_port
from sluice.stack import embedded_postgres
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, POST, did, items, uri
from tests.indexing import Index
from tests.proxy import Proxy
from tests.waiting import until

GROUP = "firehose_group"
BOBS = uri(BOB, POST, "b")


def indexer(redis: Redis, pool: asyncpg.Pool, name: str = "indexer_1", batch_size: int = 100) -> Indexer:
    database = Database(pool, "bsky")
    consumer = StreamConsumer(
        redis, FIREHOSE_LIVE, GROUP, name, field=EVENT_FIELD, batch_size=batch_size, claim_idle_seconds=60
    )
    return Indexer(consumer, EventWork(database), database, lanes=2)


@asynccontextmanager
async def running(*indexers: Indexer) -> AsyncIterator["asyncio.Task[None]"]:
    """Indexers beside the test; the first one's task, which fails the test when it fails."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(each.run(stop)) for each in indexers]
    try:
        yield tasks[0]
    finally:
        stop.set()
        for task in tasks:
            task.cancel()  # a read blocks for a second
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def add(redis: Redis, *entries: StreamEvent | bytes) -> None:
    """At once: no read brings a part of them."""
    async with redis.pipeline() as pipe:
        for entry in entries:
            pipe.xadd(FIREHOSE_LIVE, {EVENT_FIELD: entry if isinstance(entry, bytes) else encode_event(entry)})
        await pipe.execute()


async def is_drained(redis: Redis, stream: str = FIREHOSE_LIVE) -> bool:
    return not await redis.xlen(stream)


async def indexed(redis: Redis, pool: asyncpg.Pool, *entries: StreamEvent | bytes, **options: Any) -> None:
    """Until all of it is acked."""
    await add(redis, *entries)
    async with running(indexer(redis, pool, **options)) as task:
        await until(lambda: task.done() or is_drained(redis))
        assert not task.done(), task.exception()


async def letters(pool: asyncpg.Pool) -> list[tuple[str, str, str]]:
    """(reason, SQLSTATE, URI) of each dead letter."""
    rows = await pool.fetch("SELECT reason, sqlstate, uri FROM sluice_bsky.dead_letter ORDER BY id")
    return [tuple(row) for row in rows]


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"indexer_{name}", labels) or 0.0


def posts(count: int, who: str = ALICE, start: int = 0) -> list[StreamEvent]:
    return [
        make.create(who, f"p{number}", make.post(f"post {number}"), number) for number in range(start, start + count)
    ]


# written, then acked


async def test_what_is_on_the_stream_ends_in_the_tables_and_is_acked(redis: Redis, index: Index) -> None:
    await indexed(redis, index.pool, *posts(250))
    assert len(await index.rows("post", "uri")) == 250
    assert (await redis.xpending(FIREHOSE_LIVE, GROUP))["pending"] == 0


async def test_nothing_is_acked_before_it_is_committed(redis: Redis, index: Index) -> None:
    await add(redis, *posts(3))
    async with index.pool.acquire() as connection, running(indexer(redis, index.pool)):
        async with connection.transaction():
            await connection.execute("LOCK TABLE bsky.post")
            await until(lambda: waits_for_a_lock(index.pool))
            assert await redis.xlen(FIREHOSE_LIVE) == 3
        await until(lambda: is_drained(redis))
    assert len(await index.rows("post", "uri")) == 3


async def test_a_repo_that_waits_holds_up_its_own_lane_only_and_its_events_stay_in_order(
    redis: Redis, index: Index
) -> None:
    people = [did(f"person{letter}") for letter in "abcdefghijklmnopqrst"]
    await indexed(redis, index.pool, *(make.create(who, "p", make.post("old"), 1) for who in people))
    async with index.pool.acquire() as connection, running(indexer(redis, index.pool)) as task:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM bsky.actor_sync WHERE did = $1 FOR UPDATE", people[0])
            for number, text in enumerate(("newer", "newest"), 2):
                await add(redis, *(make.update(who, "p", make.post(text), number) for who in people))
                await until(lambda: waits_for_a_lock(index.pool))
            await until(lambda: is_only_one_lane_done(index))
        await until(lambda: task.done() or is_drained(redis))
        assert not task.done(), task.exception()
    assert set(await index.rows("post", "text")) == {"newest"}


async def is_only_one_lane_done(index: Index) -> bool:
    return set(await index.rows("post", "text")) == {"old", "newest"}


async def test_whoever_settles_a_thread_locks_its_posts_once_and_in_order(index: Index) -> None:
    """The last replies are found only when those above them have been judged; others may hold them, and want these."""
    root, thread = uri(CAROL, POST, "root"), [uri(CAROL, POST, "root")]
    for number in range(1, 9):
        event = make.create(BOB if number < 7 else ALICE, f"r{number}", make.reply(thread[-1], root), number)
        await index.apply(event)
        thread.append(event.uri)
    async with index.pool.acquire() as other, asyncio.TaskGroup() as tasks, other.transaction():
        await other.execute("SELECT 1 FROM bsky.post WHERE uri = $1 FOR UPDATE", thread[-1])
        tasks.create_task(index.apply(make.create(CAROL, "root", make.post(), 9)))
        await until(lambda: waits_for_a_lock(index.pool))
        await other.execute("SELECT 1 FROM bsky.post WHERE uri = $1 FOR UPDATE", thread[1])
    assert set(await index.rows("post", "invalidReplyRoot")) == {None}


async def test_a_post_that_was_replaced_while_its_settlement_waited_for_it_is_locked_before_it_is_judged(
    index: Index,
) -> None:
    await index.apply_each([make.create(BOB, "b", make.post(), 1), make.create(ALICE, "q", make.quote(BOBS), 3)])
    no_quotes = make.record("app.bsky.feed.postgate", post=BOBS, embeddingRules=[])
    before = await index.rolled_back()
    async with index.pool.acquire() as other, asyncio.TaskGroup() as tasks, other.transaction():
        quote = await other.fetchrow("DELETE FROM bsky.post WHERE uri = $1 RETURNING *", uri(ALICE, POST, "q"))
        tasks.create_task(index.apply(make.create(BOB, "b", no_quotes, 2)))
        await until(lambda: waits_for_a_lock(index.pool))
        columns = ("uri", "cid", "creator", "text", "createdAt", "indexedAt")
        replaced = [tuple(quote[name] for name in columns)]
        await other.copy_records_to_table("post", schema_name="bsky", columns=columns, records=replaced)
    assert await index.rolled_back() == before + 1


async def test_a_daemon_that_stops_leaves_what_it_could_not_write(
    redis: Redis, index: Index, migrated_url: str
) -> None:
    await add(redis, *posts(3))
    stop = asyncio.Event()
    async with Proxy(index.url) as proxy, asyncpg.create_pool(proxy.url, min_size=1) as pool:
        task = asyncio.create_task(indexer(redis, pool).run(stop))
        proxy.refuse()
        await until(lambda: proxy.refused > 1)
        stop.set()
        await asyncio.wait_for(task, 60)
    assert (await redis.xlen(FIREHOSE_LIVE), (await redis.xpending(FIREHOSE_LIVE, GROUP))["pending"]) == (3, 3)
    await indexed(redis, index.pool)
    assert len(await index.rows("post", "uri")) == 3


async def waits_for_a_lock(pool: asyncpg.Pool) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(await pool.fetchval(waiting))


# what is buried


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
    before = metric("outcomes_total", outcome="future_rev")
    now = time.time() - make.NOON
    soon = make.create(ALICE, "a", make.post("soon"), now + 60, time=make.moment(1))
    late = make.create(BOB, "b", make.post("late"), now + 3600, time=make.moment(1))
    await indexed(redis, index.pool, soon, late)
    assert await index.rows("post", "text") == ["soon"]
    assert metric("outcomes_total", outcome="future_rev") == before + 1
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


# what stops it, and what it waits out


async def test_a_fault_of_ours_stops_the_indexer_and_nothing_is_acked(redis: Redis, index: Index) -> None:
    await index.pool.execute("ALTER TABLE bsky.post DROP COLUMN tags")
    await add(redis, *posts(3))
    stop = asyncio.Event()
    with pytest.raises(ExceptionGroup) as failure:
        await asyncio.wait_for(indexer(redis, index.pool).run(stop), 60)
    assert failure.group_contains(asyncpg.UndefinedColumnError)
    assert (await redis.xlen(FIREHOSE_LIVE), (await redis.xpending(FIREHOSE_LIVE, GROUP))["pending"]) == (3, 3)
    assert await letters(index.pool) == []


async def test_a_backend_that_is_terminated_costs_nothing(redis: Redis, index: Index) -> None:
    likes = [make.create(did(f"fan{n}"), "l", make.like(BOBS), n) for n in range(10)]
    await add(redis, *likes)
    errors = metric("unexpected_errors_total")
    async with index.pool.acquire() as connection, running(indexer(redis, index.pool)):
        async with connection.transaction():
            await connection.execute('LOCK TABLE bsky."like"')
            await until(lambda: waits_for_a_lock(index.pool))
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks"
                " WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        await until(lambda: is_drained(redis))
    assert await index.count("post_agg", "likeCount", BOBS) == 10
    assert metric("unexpected_errors_total") > errors


async def test_a_commit_whose_reply_is_lost_counts_once(redis: Redis, index: Index) -> None:
    likes = [make.create(did(f"fan{n}"), "l", make.like(BOBS), n) for n in range(10)]
    await add(redis, *likes)
    async with Proxy(index.url) as proxy, asyncpg.create_pool(proxy.url, min_size=1) as pool:
        proxy.lose_reply_to(b"COMMIT")
        async with running(indexer(redis, pool)):
            await until(lambda: is_drained(redis))
        assert proxy.cuts == 1
    assert await index.count("post_agg", "likeCount", BOBS) == 10


async def test_a_restart_of_postgres_is_waited_out(redis: Redis, open_folder: Path) -> None:
    port = free_port()
    async with embedded_postgres(open_folder, disposable=True, port=lambda: port) as url:
        connection = await asyncpg.connect(url)
        await migrate(connection, "bsky")
        await connection.close()
        pool = await asyncpg.create_pool(url, min_size=1)
        await indexed(redis, pool, *posts(3))
    try:
        await add(redis, *posts(3, start=3))
        errors = metric("unexpected_errors_total")
        async with running(indexer(redis, pool)):
            await until(lambda: metric("unexpected_errors_total") > errors)
            async with embedded_postgres(open_folder, disposable=True, port=lambda: port):
                await until(lambda: is_drained(redis))
                assert await pool.fetchval("SELECT count(*) FROM bsky.post") == 6
    finally:
        pool.terminate()


# several at once


def quarrels(people: int, seed: int) -> list[StreamEvent]:
    """Likes, follows, replies and their deletions by few people about few things, so that all meet."""
    chance = random.Random(seed)
    events: list[StreamEvent] = []
    for at in range(1, 400):
        who, whom = did(f"person{chance.randrange(people)}"), did(f"person{chance.randrange(people)}")
        rkey, post = f"k{chance.randrange(8)}", uri(whom, POST, f"subject{chance.randrange(3)}")
        value = chance.choice(
            [make.like(post), make.follow(whom), make.repost(post), make.reply(post), make.quote(post)]
        )
        value["extra"] = at  # no two versions are the same
        if chance.random() < 0.35:
            events.append(make.delete(who, value["$type"], rkey, at))
        else:
            events.append(make.create(who, rkey, value, at))
    return events


async def test_several_indexers_on_the_same_repos_and_subjects_end_in_the_same_rows(
    redis: Redis, index: Index, other_index: Index
) -> None:
    events = quarrels(6, seed=1)
    await index.apply_each(events)
    await add(redis, *events)
    async with (
        asyncpg.create_pool(other_index.url, min_size=1) as second,
        asyncpg.create_pool(other_index.url, min_size=1) as third,
    ):
        pools = (other_index.pool, second, third)
        crowd = [indexer(redis, pool, f"indexer_{number}", batch_size=5) for number, pool in enumerate(pools)]
        async with running(*crowd):
            await until(lambda: is_drained(redis))
    expected, found = await index.everything(), await other_index.everything()
    assert len(expected["record"]) > 50
    for table in expected.keys() | found.keys():
        if table != "actor" and not table.startswith("sluice."):  # an actor's time is that of whatever came first
            assert found.get(table) == expected.get(table), table
