"""A snapshot goes to its stream and brings its repo in step, or whoever asked is told that it did not."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from backfiller.publishing import Publisher
from backfiller.repos import Threads
from backfiller.unpack import unpack
from common.backpressure import Room
from common.collection_filter import CollectionFilter
from common.errors import TryLater
from common.redis_connection import open_redis
from common.repo_states import RepoStates
from common.streams import StreamWriter
from common.syntax import tid_at
from sluice.server import free_port
from tests.backfilling import OUTPUT, output
from tests.refusals import refused
from tests.signed_repos import DID, Signer, record, repo
from tests.tellers import Teller
from tests.waiting import until

SIGNER = Signer()
RECORDS = {f"app.bsky.feed.post/3mfxgt2k7ir2{letter}": record(letter) for letter in "abc"}
SNAPSHOT = unpack(repo(RECORDS, SIGNER), DID, SIGNER.public, CollectionFilter(("app.bsky.*",)))


@asynccontextmanager
async def publisher(redis: Redis, states: Redis) -> AsyncIterator[Publisher]:
    with ThreadPoolExecutor(1) as executor:
        writer = StreamWriter(redis, OUTPUT, "event", Room(redis, OUTPUT, 100_000))
        yield Publisher(Threads(executor), writer, RepoStates(states), batch_size=2)


async def test_a_snapshot_older_than_what_was_missed_is_taken_and_must_be_fetched_again(
    redis: Redis, stop: asyncio.Event
) -> None:
    host = Teller(redis)
    for number in (1, 3):
        await host.commit(number, DID, rev=tid_at(1_900_000_000_000_000 + number))
    async with publisher(redis, redis) as publishing:
        with refused(TryLater, "stale_repo"):
            await publishing.publish(SNAPSHOT, stop)
    assert (await output(redis))[DID].whole


async def test_who_is_told_to_stop_before_the_repo_is_in_step_is_not_done(redis: Redis, stop: asyncio.Event) -> None:
    """Redis goes away between the last entry and the repo's state."""

    async def all_are_written() -> bool:
        return (await output(redis))[DID].whole

    async with open_redis(f"redis://127.0.0.1:{free_port()}") as away, publisher(redis, away) as publishing:
        task = asyncio.create_task(publishing.publish(SNAPSHOT, stop))
        await until(all_are_written)
        stop.set()
        assert await task is False
