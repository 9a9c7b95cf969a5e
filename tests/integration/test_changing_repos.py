"""F-B15: a repo that changes while it is fetched, or that changed unseen: the rows end where it is now."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web
from redis.asyncio import Redis

from common.collection_filter import CollectionFilter
from common.dag_cbor import encode
from common.events import EVENT_FIELD, StreamEvent, encode_event
from common.streams import FIREHOSE_BACKFILL, FIREHOSE_LIVE, StreamConsumer
from indexer.database import Database
from indexer.work import EventWork
from indexer.worker import Indexer
from ingester.frames import events_of
from tests import factories as make
from tests.backfilling import backfiller, enqueue, environment, host, idle
from tests.factories import BOB, LIKE, POST, Json, uri
from tests.indexers import GROUP, running
from tests.indexing import Index
from tests.rows import Rows
from tests.signed_commits import Writer, frame
from tests.signed_repos import DID, repo
from tests.waiting import until

EVERYTHING = CollectionFilter(("*",))
BOBS = make.create(BOB, "bobs", make.post("bob's"), 0)
LIKED = make.like(uri(BOB, POST, "bobs"))


def posts(**texts: Json | None) -> dict[str, bytes | None]:
    return {f"{POST}/{key}": None if value is None else encode(value) for key, value in texts.items()}


class History:
    """Three commits of one account: the live events of each, and the repo after it."""

    def __init__(self) -> None:
        writer = Writer()
        self.signer = writer.signer
        self.cars: list[bytes] = []
        self.events: list[Sequence[StreamEvent]] = []
        for changes in (
            posts(stays=make.post("stays"), edited=make.post("first"), goes=make.post("goes"))
            | {f"{LIKE}/goes": encode(LIKED), f"{LIKE}/back": encode(LIKED)},
            posts(edited=make.post("second"), goes=None, short=make.post("short-lived")) | {f"{LIKE}/back": None},
            posts(short=None, reply=make.reply(uri(DID, POST, "stays")))
            | {f"{LIKE}/goes": None, f"{LIKE}/new": encode(LIKED)},
        ):
            body = writer.write(changes)
            told = events_of(frame("#commit", body, len(self.cars) + 1), EVERYTHING)
            self.events.append(told.events)
            self.cars.append(repo(writer.records, writer.signer, rev=writer.rev))


@pytest.fixture
def history() -> History:
    return History()


async def add(redis: Redis, *commits: Sequence[StreamEvent]) -> None:
    for events in commits:
        for event in events:
            await redis.xadd(FIREHOSE_LIVE, {EVENT_FIELD: encode_event(event)})


async def drained(redis: Redis) -> bool:
    return await idle(redis) and not await redis.xlen(FIREHOSE_LIVE) and not await redis.xlen(FIREHOSE_BACKFILL)


async def no_live(redis: Redis) -> bool:
    return not await redis.xlen(FIREHOSE_LIVE)


@asynccontextmanager
async def indexing(redis: Redis, index: Index) -> AsyncIterator[None]:
    database = Database(index.pool, "bsky")
    async with AsyncExitStack() as stack:
        for stream in (FIREHOSE_LIVE, FIREHOSE_BACKFILL):
            consumer = StreamConsumer(redis, stream, GROUP, "indexer1", field=EVENT_FIELD, batch_size=4)
            await stack.enter_async_context(running(Indexer(consumer, EventWork(database), database, lanes=1)))
        yield


async def shown(index: Index) -> Rows:
    """What people see: no times, which a snapshot cannot know, and nothing of our own."""
    rows = await index.everything(without={"*": ["indexedAt", "sortAt", "rev"], "actor_sync": ["repoRev", "commitCid"]})
    return {table: found for table, found in rows.items() if not table.startswith("sluice.")}


async def all_in_order(index: Index, history: History) -> Rows:
    await index.apply(BOBS)
    for events in history.events:
        await index.apply(*events)
    return await shown(index)


CASES = {
    f"{served} of 3 served, {first} indexed first": (served, first == "commits")
    for served in (1, 2, 3)
    for first in ("commits", "snapshot")
}


@pytest.mark.parametrize("name", CASES)
async def test_a_repo_that_changes_while_it_is_served_ends_right(
    name: str, redis: Redis, redis_url: str, index: Index, other_index: Index
) -> None:
    """The snapshot holds the first commits; the live events of the second and third come during it or after."""
    history, (served, meanwhile) = History(), CASES[name]
    half, go_on = asyncio.Event(), asyncio.Event()
    snapshot = history.cars[served - 1]

    async def hesitate(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(snapshot))})
        await response.prepare(request)
        await response.write(snapshot[: len(snapshot) // 2])
        half.set()
        await go_on.wait()
        await response.write(snapshot[len(snapshot) // 2 :])
        return response

    async with host() as pds:
        pds.serve_made(DID, history.signer, hesitate)
        await index.apply(BOBS)
        await enqueue(redis, [DID])
        async with indexing(redis, index), backfiller(environment(redis_url, pds.url)):
            await half.wait()
            if meanwhile:
                await add(redis, *history.events[1:])
                await until(lambda: no_live(redis))
            go_on.set()
            await until(lambda: drained(redis))
            await add(redis, *history.events[1:])  # for the first time, or again
            await until(lambda: drained(redis))
    assert await shown(index) == await all_in_order(other_index, history)


async def test_a_snapshot_after_missed_deletes_removes_exactly_what_vanished(
    history: History, redis: Redis, redis_url: str, index: Index, other_index: Index
) -> None:
    """Two commits were never heard of: two edits, four deletes. Other accounts, and what stays, are left alone."""
    async with host() as pds:
        pds.serve_made(DID, history.signer, history.cars[2])
        await index.apply(BOBS, *history.events[0])
        before = set(await index.rows("record", "uri"))
        await enqueue(redis, [DID])
        async with indexing(redis, index), backfiller(environment(redis_url, pds.url)):
            await until(lambda: drained(redis))
    after = set(await index.rows("record", "uri"))
    gone = {uri(DID, POST, "goes"), uri(DID, LIKE, "goes"), uri(DID, LIKE, "back")}
    assert before - after == gone
    assert after - before == {uri(DID, POST, "reply"), uri(DID, LIKE, "new")}
    assert not gone & set(await index.rows("notification", "recordUri"))
    assert await index.count("post_agg", "likeCount", uri(BOB, POST, "bobs")) == 1
    assert await shown(index) == await all_in_order(other_index, history)
