"""One connection to Postgres or Redis, for a command that needs no more."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from backfiller.settings import PREFIX as BACKFILLER
from backfiller.settings import Settings as BackfillerSettings
from common.errors import CannotStart
from common.redis_connection import is_outage, open_redis
from common.settings import load
from ingester.settings import Settings as IngesterSettings


@asynccontextmanager
async def connected(database_url: str, named: str = "DATABASE_URL") -> AsyncIterator[asyncpg.Connection]:
    """Behind PgBouncer too. Raises CannotStart; what cannot be read of the URL, which may be part of a password, is
    left out of it.
    """
    try:
        connection = await asyncpg.connect(database_url, statement_cache_size=0, timeout=10)
    except ValueError:
        raise CannotStart(
            f"postgres does not answer, for {named} cannot be read; it looks like postgres://user:PASSWORD@host/name"
        ) from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        why = str(error) or type(error).__name__
        raise CannotStart(f"postgres does not answer: {why}; check {named}") from error
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def connected_redis(redis_url: str) -> AsyncIterator[Redis]:
    """Raises CannotStart where Redis does not answer or refuses us, and where it goes away in the middle."""
    async with open_redis(redis_url) as redis:
        try:
            await redis.ping()
        except (RedisError, OSError) as error:
            raise CannotStart(f"redis does not answer: {str(error).rstrip('.')}; check REDIS_URL") from error
        try:
            yield redis
        except RedisError as error:
            if not is_outage(error):
                raise
            raise CannotStart(f"redis went away: {error}; the same command goes on where this one stopped") from error


@asynccontextmanager
async def ingester_redis() -> AsyncIterator[Redis]:
    """The Redis of the ingester, for a command that is configured as the ingester is. Raises CannotStart."""
    async with connected_redis(load(IngesterSettings, os.environ, prefix="INGESTER_").redis_url) as redis:
        yield redis


@asynccontextmanager
async def backfiller_redis() -> AsyncIterator[tuple[Redis, BackfillerSettings]]:
    """The same of the backfillers, and their settings."""
    settings = load(BackfillerSettings, {"BACKFILLER_CONSUMER": "sluice", **os.environ}, BACKFILLER)
    async with connected_redis(settings.redis_url) as redis:
        yield redis, settings
