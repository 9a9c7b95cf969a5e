"""The ingester as a process that is killed, cut off, held up or doubled: everything stands on the stream, once."""

import asyncio
import signal
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from common.redis_connection import open_redis
from sluice.server import free_port
from sluice.stack import embedded_redis
from tests.ingesting import (
    IDENTITY,
    Event,
    StartIngester,
    as_recorded,
    on_the_stream,
    padded_identity,
    recorded,
    until_cursor,
    until_log,
    until_metric,
)
from tests.recorded_network import StartNetwork


async def test_killed_in_the_middle_it_goes_on_without_loss_or_repetition(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("load-tiny", pace=1500)
    for at_least in (400, 1200):
        daemon = await ingester(served, INGESTER_BATCH_SIZE="50")
        await until_cursor(redis, served, at_least)
        assert await daemon.end(signal.SIGKILL) == -signal.SIGKILL
    await ingester(served)
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)


async def test_connections_that_break_off_lose_and_repeat_nothing(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("load-tiny")
    served.firehose.faults.cut_after = 500
    daemon = await ingester(served)
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)
    assert (await daemon.metrics())["errors_by_reason_total reason=closed"] >= 4


async def test_told_to_stop_it_writes_the_batch_in_its_hands(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    events = recorded(served.recording.frames)
    daemon = await ingester(served, INGESTER_BATCH_SIZE="100000", INGESTER_BATCH_TIMEOUT_MS="600000")
    read = recorded(served.recording.frames, restated=True)
    await until_metric(daemon, "events_in_memory", lambda held: held == len(read))
    assert await redis.exists("firehose_live") == 0
    assert await daemon.end() == 0
    assert await on_the_stream(redis) == events


async def test_a_full_stream_stops_the_socket_and_costs_nothing(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    for seq in range(served.firehose.last_seq + 1, served.firehose.last_seq + 101):
        served.firehose.append(padded_identity(seq, 1_000_000))
    daemon = await ingester(served, INGESTER_HIGH_WATER_MARK="40", INGESTER_BATCH_SIZE="10")
    waited = "sluice_backpressure_seconds_total stream=firehose_live"
    await until_metric(daemon, waited, lambda seconds: seconds > 0.5)
    sent = served.firehose.sent
    metrics = await until_metric(daemon, waited, lambda seconds: seconds > 1.5)
    assert (metrics["backpressure_active"], metrics.unaccounted) == (1, 0)
    assert served.firehose.sent == sent < len(served.firehose)
    assert await redis.xlen("firehose_live") <= 50
    everything = recorded(served.recording.frames) + [
        (seq, "identity", IDENTITY, "", None)
        for seq in range(served.recording.last_seq + 1, served.firehose.last_seq + 1)
    ]
    assert await drained(redis, len(everything)) == everything
    metrics = await until_metric(daemon, "backpressure_active", lambda active: active == 0)
    assert metrics.unaccounted == 0


async def drained(redis: Redis, count: int) -> list[Event]:
    """Take entries off the stream, as a consumer does, until that many came."""
    events: list[Event] = []
    async with asyncio.timeout(60):
        while len(events) < count:
            reply: Any = await redis.xread({"firehose_live": b"0"}, count=20, block=1000)
            for _, entries in reply:
                events += [as_recorded(fields[b"event"]) for _, fields in entries]
                await redis.xdel("firehose_live", *(id for id, _ in entries))
    return events


async def test_two_ingesters_of_one_host_write_every_event_once(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("load-tiny", pace=400)
    daemons = await asyncio.gather(*(ingester(served, INGESTER_BATCH_SIZE=size) for size in ("50", "70")))
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)
    for daemon in daemons:  # whoever came second learns it when it writes
        await until_metric(daemon, "events_in_memory", lambda held: held == 0)
    metrics = [await daemon.metrics() for daemon in daemons]
    assert sum(found["errors_by_reason_total reason=fenced"] for found in metrics) > 0
    assert sum(found["dropped_total reason=unwritten"] for found in metrics) > 0
    assert [found.unaccounted for found in metrics] == [0, 0]


async def test_an_outage_of_redis_is_waited_out(network: StartNetwork, ingester: StartIngester, tmp_path: Path) -> None:
    served, port = await network("load-tiny", pace=1000), free_port()
    async with embedded_redis(tmp_path, port=lambda: port) as url, open_redis(url) as redis:
        daemon = await ingester(served, REDIS_URL=url, INGESTER_BATCH_SIZE="50")
        await until_cursor(redis, served, 500)
    await until_log(daemon, "redis is away, waiting")
    async with embedded_redis(tmp_path, port=lambda: port) as url, open_redis(url) as redis:
        await until_cursor(redis, served)
        assert await on_the_stream(redis) == recorded(served.recording.frames)
        assert await daemon.end() == 0


async def test_told_to_stop_during_an_outage_of_redis_it_stops(network: StartNetwork, ingester: StartIngester) -> None:
    served = await network("load-tiny", pace=1000)
    async with embedded_redis() as url, open_redis(url) as redis:
        daemon = await ingester(served, REDIS_URL=url)
        await until_cursor(redis, served, 100)
    await until_log(daemon, "redis is away, waiting")
    assert await daemon.end() == 0
    assert "cancelled after the grace period" not in daemon.messages()
