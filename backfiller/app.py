"""The backfiller put together: settings, connections, services."""

import os
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from redis.asyncio import Redis

from backfiller import metrics
from backfiller.download import Downloads
from backfiller.hosts import Hosts
from backfiller.memory import Memory
from backfiller.outcomes import Retries
from backfiller.parking import Parking
from backfiller.repos import Repos, Threads
from backfiller.settings import PREFIX, Settings
from backfiller.worker import Backfiller
from common.backpressure import Room
from common.collection_filter import CollectionFilter
from common.daemon import Service, run_daemon
from common.errors import BadInput, CannotStart
from common.events import EVENT_FIELD, JOB_FIELD
from common.identity import Identities
from common.logs import log_as_json
from common.outbound import Budget, Outbound
from common.redis_connection import check_redis, open_redis
from common.settings import load
from common.stream_gauges import HIGH_WATER, StreamGauges
from common.streams import StreamConsumer, StreamWriter
from common.telemetry import Health, serve_metrics

UNPACKING_THREADS = 4
MAX_BATCH = 500
LONGEST_DOWNLOAD_SECONDS = 900.0


async def main(environ: Mapping[str, str] = os.environ) -> None:
    """Run until told to stop. Raises CannotStart."""
    settings = load(Settings, environ, PREFIX)
    log_as_json(settings.log_level)
    if not 0.2 <= settings.memory_share <= 1:
        raise CannotStart(f"BACKFILLER_MEMORY_SHARE: {settings.memory_share} is not from 0.2 to 1")
    health = Health(metrics.PROGRESS)
    async with assembled(settings) as services:
        stop_serving = serve_metrics(settings.metrics_port, health)
        try:
            await run_daemon(health.beat, *services, grace_seconds=settings.grace_seconds)
        finally:
            stop_serving()


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[list[Service]]:
    """The services, with everything open that they need. Raises CannotStart."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings.redis_url))
        await check_redis(redis, disposable=settings.data_is_disposable)
        outbound = await stack.enter_async_context(Outbound(allow=settings.outbound_allow))
        executor = stack.enter_context(ThreadPoolExecutor(UNPACKING_THREADS, "unpack"))
        yield _services(settings, redis, outbound, Threads(executor))


def _services(settings: Settings, redis: Redis, outbound: Outbound, threads: Threads) -> list[Service]:
    batch_size = min(settings.batch_size, MAX_BATCH)
    consumer = StreamConsumer(
        redis,
        settings.backfill_stream,
        settings.group,
        settings.consumer,
        field=JOB_FIELD,
        batch_size=min(batch_size, settings.concurrency),
    )
    parking = Parking(redis, consumer, settings.dlq_stream, on_parked=metrics.PARKED.set)
    room = Room(
        redis,
        settings.firehose_stream,
        settings.high_water_mark,
        memory_share=settings.memory_share,
        on_pressure=metrics.pressure,
    )
    memory = Memory(2 * settings.max_car_bytes)
    metrics.BYTES_IN_HAND.set_function(lambda: memory.in_hand)
    metrics.CAPACITY.set(_jobs_in_hand(settings))
    backfiller = Backfiller(
        consumer,
        parking=parking,
        repos=_repos(settings, redis, outbound, threads),
        threads=threads,
        room=room,
        output=StreamWriter(redis, settings.firehose_stream, EVENT_FIELD, room),
        memory=memory,
        retries=Retries(settings.max_retries, settings.retry_initial_ms / 1000, settings.retry_max_ms / 1000),
        jobs_in_hand=_jobs_in_hand(settings),
        batch_size=batch_size,
    )
    return [backfiller.run, consumer.hold, parking.return_due, _gauges(settings, redis).run]


def _repos(settings: Settings, redis: Redis, outbound: Outbound, threads: Threads) -> Repos:
    hosts = Hosts(
        at_once=min(settings.host_concurrency, max(1, settings.concurrency // 2)),
        seats=_jobs_in_hand(settings) // 8,
    )
    metrics.HOSTS_AT_REST.set_function(hosts.at_rest)
    patience = settings.http_timeout_seconds
    budget = Budget(
        connect_seconds=min(10.0, patience),
        headers_seconds=patience,
        window_seconds=patience,
        total_seconds=max(LONGEST_DOWNLOAD_SECONDS, patience),
    )
    return Repos(
        Identities(outbound, settings.plc_url, shared=redis, on_lookup=lambda how: metrics.LOOKUPS.labels(how).inc()),
        Downloads(outbound, hosts, budget, at_once=settings.concurrency, max_car_bytes=settings.max_car_bytes),
        threads,
        _collections(settings),
        verify_signatures=not settings.skip_signature_verification,
    )


def _jobs_in_hand(settings: Settings) -> int:
    """More than are downloaded at once: some wait for their host."""
    return 4 * settings.concurrency


def _collections(settings: Settings) -> CollectionFilter:
    try:
        return CollectionFilter(settings.collections)
    except BadInput as error:
        raise CannotStart(f"BACKFILLER_COLLECTIONS: {error.detail!r} is no collection, nor app.bsky.* or *") from error


def _gauges(settings: Settings, redis: Redis) -> StreamGauges:
    HIGH_WATER.labels(settings.firehose_stream).set(settings.high_water_mark)
    streams = {settings.backfill_stream: settings.group, settings.firehose_stream: None, settings.dlq_stream: None}
    return StreamGauges(
        redis, streams, on_sample=partial(metrics.sampled, settings.backfill_stream, settings.firehose_stream)
    )
