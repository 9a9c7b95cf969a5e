"""Each PDS by itself: its repos are listed when it is due, a few hosts at a time, whatever a single one does."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from common.daemon import stopped_within
from common.redis_connection import outlast
from common.streams import REPO_BACKFILL
from ingester.cursors import cursor_key
from ingester.host_listing import HOSTS_DUE
from ingester.repo_listing import RepoListing

LOOK_SECONDS = 5.0
LEASE_SECONDS = 120.0
RETRY_SECONDS = 3600.0

# KEYS: hosts by when they are due. ARGV: now, until when the host is ours. The one that has waited longest, or nothing.
_TAKE = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)
if not due[1] then return false end
redis.call('ZADD', KEYS[1], 'XX', ARGV[2], due[1])
return due[1]
"""
log = logging.getLogger(__name__)


class PdsListings:
    """A service. A host that is taken is ours for a while, and given back if we are gone."""

    def __init__(
        self, redis: Redis, listing_of: Callable[[str], RepoListing], *, at_once: int, repeat_seconds: float
    ) -> None:
        """`listing_of` a host keeps its position under its cursor key, and lets go of a host that fails."""
        self._redis = redis
        self._listing_of = listing_of
        self._at_once = at_once
        self._repeat_seconds = repeat_seconds
        self._take = redis.register_script(_TAKE)

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._at_once):
                tasks.create_task(self._work(stop))

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            host = await outlast(stop, self._next)
            if host:
                await self._list(host, stop)
            else:
                await stopped_within(stop, LOOK_SECONDS)

    async def _next(self) -> str:
        """'' if none is due."""
        now = time.time()
        taken: Any = await self._take(keys=[HOSTS_DUE], args=[now, now + LEASE_SECONDS])
        return taken.decode() if taken else ""

    async def _list(self, host: str, stop: asyncio.Event) -> None:
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hold(host, ended))
            try:
                is_listed = await self._listing_of(host).to_its_end(stop)
            finally:
                ended.set()
        if is_listed:
            await outlast(stop, lambda: self._redis.delete(cursor_key(REPO_BACKFILL, host)))
            await self._due(host, time.time() + self._repeat_seconds if self._repeat_seconds else math.inf, stop)
        elif stop.is_set():
            await self._due(host, 0.0, stop)
        else:
            log.warning("this PDS does not list its repos, trying again in an hour", extra={"host": host})
            await self._due(host, time.time() + RETRY_SECONDS, stop)

    async def _hold(self, host: str, ended: asyncio.Event) -> None:
        while not await stopped_within(ended, LEASE_SECONDS / 3):
            await self._due(host, time.time() + LEASE_SECONDS, ended)

    async def _due(self, host: str, at: float, stop: asyncio.Event) -> None:
        await outlast(stop, lambda: self._redis.zadd(HOSTS_DUE, {host: at}, xx=True))
