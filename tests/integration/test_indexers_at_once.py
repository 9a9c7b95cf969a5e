"""Several indexers on the same rows, and others beside them: who waits for whom, and that all end in the same."""

import asyncio
import random

import asyncpg
from redis.asyncio import Redis

from common.events import StreamEvent
from tests import factories as make
from tests.databases import waits_for_a_lock
from tests.factories import ALICE, BOB, CAROL, POST, did, uri
from tests.indexers import BOBS, add, indexed, indexer, is_drained, running
from tests.indexing import Index
from tests.waiting import until


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
