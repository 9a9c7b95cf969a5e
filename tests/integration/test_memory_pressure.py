"""A Redis near its limit is full whatever the length of the stream; what is known of repos never counts."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from backfiller.ledger import Entry, Ledger
from common.backpressure import Room
from common.standing import BYTES_PER_OUTCOME, BYTES_PER_REPO, standing_bytes
from tests.pressure import STREAM, Pressure, waiting


async def test_a_redis_near_its_limit_is_full_whatever_the_length(
    own_redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    await own_redis.set("much", b"x" * (16 << 20))  # so that buffers of ours make no difference
    await set_share(own_redis, 0.85)
    room = Room(own_redis, STREAM, 1_000_000, memory_share=0.8, on_pressure=pressure)
    async with waiting(room, stop) as task:
        await pressure.looks()
        await set_share(own_redis, 0.75)
        await pressure.looks(more=25)  # it asks for the memory every second, and looks ten times in one
        assert not task.done()
        await set_share(own_redis, 0.6)
        assert await task


async def test_a_redis_without_a_limit_is_never_near_it(
    own_redis: Redis, stop: asyncio.Event, pressure: Pressure
) -> None:
    await own_redis.set("much", b"x" * (8 << 20))
    assert await Room(own_redis, STREAM, 10, on_pressure=pressure).wait(stop)
    assert pressure.told == []


async def set_share(redis: Redis, share: float) -> None:
    await redis.config_set("maxmemory", int((await redis.info("memory"))["used_memory"] / share))


async def used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


@pytest.mark.parametrize(
    "standing", [("repo_chain", "repos", BYTES_PER_REPO), ("repo_backfill:outcomes", "done", BYTES_PER_OUTCOME)]
)
async def test_what_is_known_of_repos_is_no_pressure_for_it_never_drains(
    own_redis: Redis, stop: asyncio.Event, pressure: Pressure, standing: tuple[str, str, int]
) -> None:
    key, count, each = standing
    await own_redis.config_set("maxmemory", 2 * await used(own_redis))
    await own_redis.hset(key, count, int(0.9 * await used(own_redis) / each))
    assert await Room(own_redis, STREAM, 10, memory_share=0.4, on_pressure=pressure).wait(stop)
    assert pressure.told == []
    await own_redis.delete(key)
    async with waiting(Room(own_redis, STREAM, 10, memory_share=0.4, on_pressure=pressure), stop):
        await pressure.looks()


async def test_a_redis_that_is_too_small_for_its_repos_is_complained_about_once(
    own_redis: Redis, stop: asyncio.Event, pressure: Pressure, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 2 * await used(own_redis)
    await own_redis.config_set("maxmemory", limit)
    await own_redis.hset("repo_chain", "repos", limit // BYTES_PER_REPO + 1)
    room = Room(own_redis, STREAM, 10, on_pressure=pressure)
    async with waiting(room, stop):
        await pressure.looks(15)
    assert caplog.text.count("raise its maxmemory") == 1


async def test_the_ledger_of_backfills_is_known_by_its_size_and_never_overrated(own_redis: Redis) -> None:
    """Under whichever name of its stream; 40 repos to a bucket, as in the whole network."""
    before, repos = await used(own_redis), 20_000
    ledger = Ledger(own_redis, "other_backfills")
    entry = Entry("done", "3lzxs5v5ahc2c", int(time.time() * 1000), 1234, 56, note="0c1d2e3f").text()
    async with own_redis.pipeline(transaction=False) as pipe:
        for number in range(repos):
            pipe.hset(f"other_backfills:outcome:{number // 40:05x}", f"did:plc:{number:024}", entry)
        pipe.hincrby(ledger.counts_key, "done", repos - repos // 10)
        pipe.hincrby(ledger.counts_key, "deleted", repos // 10)
        pipe.zadd(ledger.recheck_key, {f"did:plc:{number:024}": time.time() for number in range(repos // 10)})
        await pipe.execute()
    taken = await used(own_redis) - before
    assert 0.6 * taken < await standing_bytes(own_redis, "other_backfills") < 1.05 * taken
    assert await standing_bytes(own_redis) == 0
