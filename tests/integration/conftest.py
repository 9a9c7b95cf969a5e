"""A Redis behind a line that drops, and the event by which a service is told to stop."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from common.redis_connection import open_redis
from tests.proxy import Proxy


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def shaky(proxy: Proxy) -> AsyncIterator[Redis]:
    """A client behind the proxy."""
    async with open_redis(proxy.url) as client:
        yield client
