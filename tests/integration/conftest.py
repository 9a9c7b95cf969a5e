"""What many of these tests start from: a line that drops, a host of websockets, a place where people are looked up."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from common.redis_connection import open_redis
from tests.auditing import one_of_everything
from tests.databases import connected
from tests.indexing import Index
from tests.listing_hosts import Relay, listing_relay
from tests.people import Directory, Look, look_once
from tests.pressure import Pressure
from tests.proxy import Proxy
from tests.tellers import Teller
from tests.websocket_hosts import Host, Reader, websocket_host


@pytest.fixture
def stop() -> asyncio.Event:
    """By which a service is told to stop."""
    return asyncio.Event()


@pytest.fixture
def pressure() -> Pressure:
    """What a room tells."""
    return Pressure()


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def shaky(proxy: Proxy) -> AsyncIterator[Redis]:
    """A client behind the proxy."""
    async with open_redis(proxy.url) as client:
        yield client


@pytest.fixture
async def counted(index: Index) -> Index:
    """A database that holds one of everything that counts."""
    return await one_of_everything(index)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """To an empty database."""
    async with connected(database_url) as connection:
        yield connection


@pytest.fixture
def host(redis: Redis) -> Teller:
    return Teller(redis)


@pytest.fixture
def other(redis: Redis) -> Teller:
    """Another relay, whose numbers are others."""
    return Teller(redis, "two.test", seq=9000)


@pytest.fixture
async def relay() -> AsyncIterator[Host]:
    async with websocket_host() as host:
        yield host


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def reader(http: ClientSession, relay: Host) -> Reader:
    """What reads the relay."""
    return Reader(http, relay.url)


@pytest.fixture
async def directory() -> AsyncIterator[Directory]:
    directory = Directory()
    async with directory.serving():
        yield directory


@pytest.fixture
def look(index: Index, directory: Directory) -> Look:
    """Let an indexer that has just been started look up whatever is due now, once."""
    return lambda: look_once(index, directory)


@pytest.fixture
async def lister() -> AsyncIterator[Relay]:
    async with listing_relay() as lister:
        yield lister
