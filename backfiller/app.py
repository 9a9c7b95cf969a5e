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
from backfiller.ledger import Ledger
from backfiller.outcomes import Retries
from backfiller.parking import Parking
from backfiller.permits import Permits
from backfiller.publishing import MAX_BATCH, Publisher
from backfiller.rechecks import Rechecks
from backfiller.repos import Repos, Threads
from backfiller.settings import PREFIX, Settings
from backfiller.settlements import Settlements
from backfiller.spool import Spools
from backfiller.suspects import Suspects
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
from common.repo_states import RepoStates
from common.settings import load
from common.stream_gauges import HIGH_WATER, StreamGauges
from common.streams import StreamConsumer, StreamWriter
from common.telemetry import Health, serve_metrics

UNPACKING_THREADS = 4
LONGEST_DOWNLOAD_SECONDS = 900.0


async def main(environ: Mapping[str, str] = os.environ) -> None:
    """Run until told to stop. Raises CannotStart."""
    settings = load(Settings, environ, PREFIX)
    log_as_json(settings.log_level)
    if settings.spool_folder and not os.access(settings.spool_folder, os.W_OK):
        raise CannotStart(f"BACKFILLER_SPOOL_FOLDER: {settings.spool_folder} cannot be written to")
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
    room = Room(
        redis,
        settings.firehose_stream,
        settings.high_water_mark,
        memory_share=settings.memory_share,
        backfills=settings.backfill_stream,
        on_pressure=lambda stream, active, seconds: metrics.PRESSURE.set(active),
    )
    shared = _Shared(settings, redis, threads, room, outbound)
    lanes = [_lane(shared, stream, at_once) for stream, at_once in _at_once(settings).items()]
    metrics.BYTES_IN_HAND.labels("memory").set_function(lambda: shared.spools.memory.in_hand)
    metrics.BYTES_IN_HAND.labels("disk").set_function(lambda: shared.spools.disk.in_hand)
    metrics.HOSTS_LEFT_ALONE.labels("ratelimited").set_function(lambda: shared.permits.left_alone("host_at_rest"))
    metrics.HOSTS_LEFT_ALONE.labels("down").set_function(lambda: shared.permits.left_alone("host_down"))
    metrics.PARKED.set_function(lambda: sum(lane.parking.parked for lane in lanes))
    metrics.PARKING_FULL.set_function(lambda: any(lane.parking.is_full for lane in lanes))
    services = [service for lane in lanes for service in (lane.run, lane.consumer.hold, lane.parking.return_due)]
    return [*services, shared.rechecks().run, _gauges(settings, redis).run]


def _at_once(settings: Settings) -> dict[str, int]:
    """Downloads at once for each input. What is urgent waits for nothing else: it has places of its own."""
    return {settings.backfill_stream: settings.concurrency, settings.high_stream: max(2, settings.concurrency // 4)}


class _Shared:
    """What all jobs of this process have in common, whichever stream they come from."""

    def __init__(self, settings: Settings, redis: Redis, threads: Threads, room: Room, outbound: Outbound) -> None:
        self.settings = settings
        self.redis = redis
        self.threads = threads
        self.room = room
        self.outbound = outbound
        self.spools = Spools(
            memory_bytes=settings.memory_bytes,
            disk_bytes=settings.spool_bytes,
            largest_in_memory=settings.memory_bytes // 8,
            folder=settings.spool_folder or None,
        )
        self.permits = Permits(redis, settings.backfill_stream, requests_per_second=settings.host_requests_per_second)
        self.ledger = Ledger(redis, settings.backfill_stream)
        output = StreamWriter(redis, settings.firehose_stream, EVENT_FIELD, room)
        self.publisher = Publisher(threads, output, RepoStates(redis), settings.batch_size)
        self.hosts = Hosts(
            at_once=min(settings.host_concurrency, max(1, settings.concurrency // 2)),
            seats=_jobs_in_hand(settings.concurrency) // 8,
            permit=self.permits.ask,
        )
        # as many as repos at once: with fewer, others wait behind questions about accounts at dead hosts
        self.identities = Identities(outbound, settings.plc_url, shared=redis, questions=settings.concurrency)

    def rechecks(self) -> Rechecks:
        return Rechecks(
            self.redis,
            self.settings.backfill_stream,
            self.ledger.recheck_key,
        )


def _lane(shared: _Shared, stream: str, at_once: int) -> Backfiller:
    settings = shared.settings
    consumer = StreamConsumer(
        shared.redis,
        stream,
        settings.group,
        settings.consumer,
        field=JOB_FIELD,
        batch_size=min(settings.batch_size, MAX_BATCH, at_once),
    )
    return Backfiller(
        consumer,
        parking=Parking(shared.redis, consumer, mark=settings.parked_high_water_mark),
        ledger=shared.ledger,
        settlements=Settlements(
            shared.redis, consumer, shared.ledger, settings.dlq_stream, recheck_seconds=settings.recheck_seconds
        ),
        repos=_repos(shared, at_once, urgent=stream == settings.high_stream),
        room=shared.room,
        publisher=shared.publisher,
        spools=shared.spools,
        suspects=Suspects(shared.redis, stream, settings.max_deaths),
        retries=Retries(settings.max_retries, settings.retry_initial_ms / 1000, settings.retry_max_ms / 1000),
        jobs_in_hand=_jobs_in_hand(at_once),
    )


def _repos(shared: _Shared, at_once: int, *, urgent: bool) -> Repos:
    settings = shared.settings
    patience = settings.http_timeout_seconds
    budget = Budget(
        connect_seconds=min(10.0, patience),
        headers_seconds=patience,
        window_seconds=patience,
        total_seconds=max(LONGEST_DOWNLOAD_SECONDS, patience),
    )
    return Repos(
        shared.identities,
        Downloads(
            shared.outbound,
            shared.hosts,
            shared.permits,
            budget,
            at_once=at_once,
            max_car_bytes=settings.max_car_bytes,
            urgent=urgent,
        ),
        shared.threads,
        collections_of(settings),
        verify_signatures=not settings.skip_signature_verification,
    )


def _jobs_in_hand(at_once: int) -> int:
    """More than are downloaded at once: some wait for their host."""
    return 4 * at_once


def collections_of(settings: Settings) -> CollectionFilter:
    """Raises CannotStart."""
    try:
        return CollectionFilter(settings.collections)
    except BadInput as error:
        raise CannotStart(f"BACKFILLER_COLLECTIONS: {error.detail!r} is no collection, nor app.bsky.* or *") from error


def _gauges(settings: Settings, redis: Redis) -> StreamGauges:
    HIGH_WATER.labels(settings.firehose_stream).set(settings.high_water_mark)
    inputs = dict.fromkeys(_at_once(settings), settings.group)
    streams = {**inputs, settings.firehose_stream: None, settings.dlq_stream: None}
    return StreamGauges(
        redis,
        streams,
        backfills=settings.backfill_stream,
        on_sample=partial(metrics.sampled, tuple(inputs), settings.firehose_stream),
    )
