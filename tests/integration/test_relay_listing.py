"""A relay's list of repos as a service reads it: from where it was, when its time has come, as there is room."""

import asyncio

import pytest
from redis.asyncio import Redis

from common.backpressure import Room
from common.streams import REPO_BACKFILL
from ingester import relay_listing, repo_listing
from ingester.cursors import LISTING_DONE, cursor_key
from ingester.relay_listing import listed_key
from tests.listing_hosts import DIDS, Relay, dids, listing, rows, until_done
from tests.samples import moved
from tests.waiting import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are shortened; what is waited for is as it is."""
    monkeypatch.setattr(repo_listing, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(relay_listing, "RECHECK_SECONDS", 0.05)


async def test_a_listing_goes_on_where_it_was_stopped(redis: Redis, lister: Relay) -> None:
    await redis.set(cursor_key(REPO_BACKFILL, lister.upstream.host), "5")
    async with listing(redis, lister.upstream):
        await until_done(redis, lister.upstream)
    assert await dids(redis) == DIDS[5:]


async def test_a_finished_listing_begins_again_when_its_cursor_is_deleted(redis: Redis, lister: Relay) -> None:
    async with listing(redis, lister.upstream):
        await until_done(redis, lister.upstream)
        await redis.delete(cursor_key(REPO_BACKFILL, lister.upstream.host))
        await until_done(redis, lister.upstream)
    assert await dids(redis) == DIDS * 2


async def test_no_page_is_fetched_before_there_is_room_for_it(redis: Redis, lister: Relay) -> None:
    waiting = asyncio.Event()
    room = Room(redis, REPO_BACKFILL, 2, on_pressure=lambda stream, active, seconds: waiting.set())
    for _ in range(2):
        await redis.xadd(REPO_BACKFILL, {"repo": "{}"})
    async with listing(redis, lister.upstream, room):
        async with asyncio.timeout(20):
            await waiting.wait()
        assert lister.asked == []
        await redis.xtrim(REPO_BACKFILL, maxlen=0)
        await until_done(redis, lister.upstream)
    assert await dids(redis) == DIDS


async def test_a_cursor_moved_by_another_lister_is_followed_and_no_repo_is_queued_twice(
    redis: Redis, lister: Relay
) -> None:
    async def another_lister(cursor: str) -> None:
        if cursor == "":
            await redis.set(cursor_key(REPO_BACKFILL, lister.upstream.host), "6")

    lister.before_answering = another_lister
    lister.answer = lambda cursor, limit: rows(DIDS)(cursor, 4)
    unwritten = moved("ingester_dropped_total", source="listing", reason="unwritten")
    async with listing(redis, lister.upstream):
        await until_done(redis, lister.upstream)
    assert (await dids(redis), unwritten()) == (DIDS[6:], 4)


async def test_a_list_is_read_again_when_its_time_has_come(redis: Redis, lister: Relay) -> None:
    async with listing(redis, lister.upstream, repeat_seconds=1):

        async def is_listed_twice() -> bool:
            return await dids(redis) == DIDS * 2

        await until(is_listed_twice)


async def test_a_restart_does_not_put_off_the_next_listing(redis: Redis, lister: Relay) -> None:
    key = cursor_key(REPO_BACKFILL, lister.upstream.host)
    await redis.mset({key: LISTING_DONE, listed_key(key): 17})
    async with listing(redis, lister.upstream, repeat_seconds=3600):

        async def is_listed() -> bool:
            return await dids(redis) == DIDS

        await until(is_listed)
