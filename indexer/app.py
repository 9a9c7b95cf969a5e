"""Puts the indexer together: settings in, services running."""

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack

import asyncpg
from redis.asyncio import Redis

from common.daemon import Service, run_daemon
from common.errors import CannotStart
from common.events import EVENT_FIELD, LABELS_FIELD
from common.identity import Identities
from common.logs import log_as_json
from common.outbound import Outbound
from common.redis_connection import check_redis, open_redis
from common.settings import load
from common.stream_gauges import StreamGauges
from common.streams import FIREHOSE_BACKFILL, LABEL_LIVE, StreamConsumer
from common.telemetry import Health, serve_metrics
from indexer import deletions, handles, metrics, resyncs
from indexer.database import Database
from indexer.due import DueChecks
from indexer.handle_resolver import HandleResolver
from indexer.migrations import check_durability, check_schema
from indexer.pool_gauges import PoolGauges
from indexer.records import APPVIEWS
from indexer.settings import Settings
from indexer.turns import Turns
from indexer.work import EventWork, LabelWork, Work
from indexer.worker import Indexer

MODES = ("stream", "label", "all")
RESYNCS_AT_ONCE = 20
MOST_LANES = 4  # more would only fill memory: one process keeps two busy


async def main(environ: Mapping[str, str] = os.environ) -> None:
    settings = load(Settings, environ, prefix="INDEXER_")
    log_as_json(settings.log_level)
    health = Health(metrics.PROGRESS)
    async with AsyncExitStack() as stack:
        stack.callback(serve_metrics(settings.metrics_port, health))
        redis = await stack.enter_async_context(open_redis(settings.redis_url))
        await check_redis(redis, disposable=settings.data_is_disposable)
        pool = await stack.enter_async_context(await open_pool(settings))
        database = Database(pool, settings.database_schema, settings.appview)
        services = [*stream_services(settings, redis, database), PoolGauges(pool).run, health.beat]
        if settings.resolve_dids:
            outbound = await stack.enter_async_context(Outbound(allow=settings.outbound_allow))
            services += look_up_services(settings, database, outbound)
        await run_daemon(*services, grace_seconds=settings.grace_seconds)


async def open_pool(settings: Settings) -> asyncpg.Pool:
    """Raises CannotStart unless Postgres is there, keeps what it is given, and has the schema that the code needs."""
    if settings.appview not in APPVIEWS:
        raise CannotStart(f"DATABASE_APPVIEW: {settings.appview!r} is none of {', '.join(APPVIEWS)}")
    try:
        pool: asyncpg.Pool = await asyncpg.create_pool(
            settings.database_url,
            min_size=min(settings.pool_idle, settings.pool_size),
            max_size=settings.pool_size,
            command_timeout=60,
            reset=_keep,
            statement_cache_size=0 if settings.pgbouncer else 256,
        )
    except ValueError:
        # what cannot be read is left out: it may be part of a password
        raise CannotStart(
            "DATABASE_URL cannot be read; it looks like postgres://user:PASSWORD@host:5432/name"
        ) from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CannotStart(f"postgres does not answer: {error}; check DATABASE_URL") from error
    async with pool.acquire() as connection:
        if not settings.data_is_disposable:
            await check_durability(connection)
        await check_schema(connection, settings.database_schema, settings.appview)
    return pool


async def _keep(connection: asyncpg.Connection) -> None:
    """No session ever has a state of its own (database.py), so there is nothing to reset: a round trip less."""


def stream_services(settings: Settings, redis: Redis, database: Database) -> list[Service]:
    if settings.mode not in MODES:
        raise CannotStart(f"INDEXER_MODE: {settings.mode!r} is none of {', '.join(MODES)}")
    works: dict[str, tuple[str, Work]] = {}
    if settings.mode in ("stream", "all"):
        works |= {stream: (EVENT_FIELD, EventWork(database)) for stream in settings.streams}
    if settings.mode in ("label", "all"):
        works[LABEL_LIVE] = (LABELS_FIELD, LabelWork(database))
    lanes = min(settings.concurrency, MOST_LANES)
    turns = Turns(settings.live_batches)
    indexers = [
        Indexer(
            _consumer(settings, redis, stream, field, lanes),
            work,
            database,
            lanes=lanes,
            turns=turns,
            is_live=stream != FIREHOSE_BACKFILL,
        )
        for stream, (field, work) in works.items()
    ]
    gauges = StreamGauges(redis, dict.fromkeys(works, settings.group), on_sample=metrics.show_pending)
    resync = DueChecks(database, resyncs.TABLE, resyncs.ResyncQueue(database, redis).look, RESYNCS_AT_ONCE)
    return [*(indexer.run for indexer in indexers), gauges.run, resync.run]


def _consumer(settings: Settings, redis: Redis, stream: str, field: str, lanes: int) -> StreamConsumer:
    return StreamConsumer(
        redis,
        stream,
        settings.group,
        settings.consumer,
        field=field,
        batch_size=settings.batch_size * lanes,
        claim_idle_seconds=settings.claim_idle_seconds,
        on_ack_failure=metrics.ACK_FAILURES.inc,
    )


def look_up_services(settings: Settings, database: Database, outbound: Outbound) -> list[Service]:
    identities = Identities(outbound, settings.plc_url)
    lookup = handles.HandleLookup(database, identities, HandleResolver(outbound, settings.handle_resolver))
    deletion = deletions.DeletionCheck(database, identities, outbound)
    return [
        DueChecks(database, handles.TABLE, lookup.look, settings.handle_concurrency).run,
        DueChecks(database, deletions.TABLE, deletion.look, settings.handle_concurrency).run,
    ]
