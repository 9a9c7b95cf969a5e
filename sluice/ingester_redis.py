"""The Redis of the ingester, for commands that look into it: configured as the ingester is."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.errors import CannotStart
from common.redis_connection import open_redis
from common.settings import load
from ingester.settings import Settings


@asynccontextmanager
async def ingester_redis() -> AsyncIterator[Redis]:
    """Raises CannotStart where Redis does not answer, also in the middle."""
    async with open_redis(load(Settings, os.environ, prefix="INGESTER_").redis_url) as redis:
        try:
            await redis.ping()
            yield redis
        except (RedisError, OSError) as error:
            raise CannotStart(f"redis does not answer: {error}; check REDIS_URL") from error
