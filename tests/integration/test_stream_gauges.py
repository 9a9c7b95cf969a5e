"""What a daemon shows of streams and of Redis: lengths, lag, age, memory; and nothing that it does not know."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from common.redis_connection import open_redis
from common.standing import BYTES_PER_OUTCOME, BYTES_PER_REPO
from common.stream_gauges import StreamGauges, StreamSample, watched
from common.streams import StreamConsumer
from tests.proxy import Proxy
from tests.waiting import until

GAUGES = ("length", "group_lag", "group_pending", "group_oldest_pending_age_seconds", "group_lag_seconds")


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


def shown(stream: str, group: str) -> list[float | None]:
    """What is exported of a stream."""
    samples = [REGISTRY.get_sample_value("sluice_stream_length", {"stream": stream})]
    for name in GAUGES[1:]:
        samples.append(REGISTRY.get_sample_value(f"sluice_stream_{name}", {"stream": stream, "group": group}))
    return samples


def redis_shown() -> list[float | None]:
    """Whether it answers, how fast, and its memory."""
    names = {
        "sluice_dependency_up": ("dependency", "redis"),
        "sluice_dependency_round_trip_seconds": ("dependency", "redis"),
    }
    names |= {"sluice_redis_memory_bytes": ("kind", "used")}
    return [REGISTRY.get_sample_value(name, dict([label])) for name, label in names.items()]


async def test_what_never_drains_from_redis_is_shown_beside_what_it_uses(redis: Redis, stop: asyncio.Event) -> None:
    await redis.hset("repo_chain", "repos", "200000")
    await redis.hset("repo_backfill:outcomes", mapping={"done": 90_000, "deleted": 10_000})
    seen: list[object] = []
    gauges = StreamGauges(redis, {"events": None}, on_sample=seen.append)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gauges.run(stop))
        await until(lambda: seen)
        stop.set()
    shown = REGISTRY.get_sample_value("sluice_redis_memory_bytes", {"kind": "standing"})
    assert shown == 200_000 * BYTES_PER_REPO + 100_000 * BYTES_PER_OUTCOME


async def test_a_stream_shows_its_length_its_lag_and_its_oldest_work(redis: Redis, stop: asyncio.Event) -> None:
    for number in range(5):
        await redis.xadd("events", {"event": "x"}, id=f"{int(time.time() * 1000) - 90_000}-{number}")
    consumer = StreamConsumer(redis, "events", "group", "one", field="event", batch_size=3)
    assert await anext(consumer.batches(stop))
    seen: list[dict[str, StreamSample]] = []
    gauges = StreamGauges(redis, {"events": "group"}, interval_seconds=0.01, on_sample=lambda it: seen.append(dict(it)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gauges.run(stop))
        await until(lambda: seen)
        stop.set()
    length, lag, pending, age, lag_seconds = shown("events", "group")
    assert (length, lag, pending) == (5, 2, 3)
    assert age is not None
    assert lag_seconds is not None
    assert 85 < age < 200
    assert 85 < lag_seconds < 200
    assert (seen[0]["events"].length, seen[0]["events"].lag) == (5, 2)


async def test_a_stream_without_a_group_has_nothing_pending(redis: Redis, stop: asyncio.Event) -> None:
    await redis.xadd("events", {"event": "x"})
    seen: list[dict[str, StreamSample]] = []
    groups = {"events": "nobody", "none": "nobody", **watched(["written"])}
    gauges = StreamGauges(redis, groups, interval_seconds=0.01, on_sample=lambda it: seen.append(dict(it)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gauges.run(stop))
        await until(lambda: seen)
        stop.set()
    assert seen[0]["events"] == StreamSample(1, lag_seconds=seen[0]["events"].lag_seconds)
    assert seen[0]["none"] == seen[0]["written"] == StreamSample(0)
    assert shown("events", "nobody")[:4] == [1, 1, 0, 0]
    assert seen[0]["events"].lag_seconds is not None
    assert shown("written", "nobody") == [0, None, None, None, None]


async def test_what_somebody_deleted_or_trimmed_does_not_count_as_waiting(redis: Redis, stop: asyncio.Event) -> None:
    """Redis' own lag is wrong from here on: 7.0 says 1 for ever."""
    ids = [await redis.xadd("events", {"event": "x"}) for _ in range(3)]
    consumer = StreamConsumer(redis, "events", "group", "one", field="event", batch_size=2)
    assert len(await anext(consumer.batches(stop))) == 2
    await redis.xdel("events", *ids[1:])
    seen: list[StreamSample] = []
    gauges = StreamGauges(
        redis, {"events": "group"}, interval_seconds=0.01, on_sample=lambda it: seen.append(it["events"])
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gauges.run(stop))
        await until(lambda: seen)
        assert (seen[-1].length, seen[-1].lag, seen[-1].lag_seconds) == (1, 0, None)
        await redis.xadd("events", {"event": "x"})
        await until(lambda: seen[-1].lag == 1)
        stop.set()


async def test_what_is_unknown_during_an_outage_is_not_shown(redis: Redis, redis_url: str, stop: asyncio.Event) -> None:
    await redis.xadd("events", {"event": "x"})
    async with Proxy(redis_url) as proxy, open_redis(proxy.url) as shaky, asyncio.TaskGroup() as tasks:
        tasks.create_task(StreamGauges(shaky, {"events": "group"}, interval_seconds=0.01).run(stop))
        await until(lambda: shown("events", "group")[0] == 1)
        assert redis_shown()[0] == 1
        assert None not in redis_shown()
        proxy.refuse()
        await until(lambda: shown("events", "group") == [None] * 5)
        assert redis_shown() == [0, None, None]
        proxy.accept()
        await until(lambda: shown("events", "group")[0] == 1)
        assert redis_shown()[0] == 1
        stop.set()


async def test_a_stream_of_another_kind_is_no_outage(redis: Redis, stop: asyncio.Event) -> None:
    await redis.set("events", "text")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await StreamGauges(redis, {"events": "group"}).run(stop)
