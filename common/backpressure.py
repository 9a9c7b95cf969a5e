"""When a stream is full, and when there is room again."""

import asyncio
import logging
import time
from collections.abc import Callable

from prometheus_client import Counter
from redis.asyncio import Redis

from common.daemon import stopped_within
from common.redis_connection import outlast
from common.standing import BACKFILLS, standing_bytes

POLL_SECONDS = 0.1
MEMORY_POLL_SECONDS = 1.0
MOST_STANDING = 0.6  # of maxmemory; more leaves the streams too little to work with

WAITED = Counter("sluice_backpressure_seconds_total", "Time that writers to a stream waited for room.", ["stream"])

log = logging.getLogger(__name__)


class Room:
    """Whether a stream may be written to.

    Full at `high_water_mark` entries or when Redis uses `memory_share` of its maxmemory; open again only at
    80 % of the mark and 10 points below the share, so that the two sides do not flap. The length is the
    work not yet done (acked entries are deleted), so a full stream drains as its consumers work.

    What is known of repos and of their backfills stands in the same memory and never drains: the share is of what
    that leaves. `backfills` is the stream that names the backfillers' ledger.
    """

    def __init__(
        self,
        redis: Redis,
        stream: str,
        high_water_mark: int,
        *,
        memory_share: float = 0.8,
        backfills: str = BACKFILLS,
        on_pressure: Callable[[str, bool, float], None] = lambda stream, active, seconds: None,
    ) -> None:
        self.stream = stream
        WAITED.labels(stream)
        self.high_water_mark = high_water_mark
        self._redis = redis
        self._memory_share = memory_share
        self._backfills = backfills
        self._on_pressure = on_pressure
        self._length: int | None = None
        self._used_share = 0.0
        self._memory_known_until = 0.0
        self._watched = False
        self._complained = False

    def observe(self, length: int) -> None:
        """The length that an append came back with, which saves asking."""
        self._length = length

    async def wait(self, stop: asyncio.Event) -> bool:
        """True once there is room; False if the daemon was told to stop first. Outages of Redis are waited out.

        Many may wait: one of them watches the stream, and is who tells `on_pressure`.
        """
        if self._length is None and not await self._measure(stop):
            return False
        if not await self._measure_memory(stop):
            return False
        while self._watched or self._is_full():
            if not self._watched:
                return await self._wait_until_open(stop)
            if await stopped_within(stop, POLL_SECONDS):
                return False
        return True

    async def _wait_until_open(self, stop: asyncio.Event) -> bool:
        since = time.monotonic()
        self._watched = True
        self._tell(True, 0.0)
        try:
            while not self._is_open():
                if await stopped_within(stop, POLL_SECONDS):
                    return False
                now = time.monotonic()
                self._tell(True, now - since)
                since = now
                if not await self._measure(stop) or not await self._measure_memory(stop):
                    return False
            return True
        finally:
            self._watched = False
            self._tell(False, time.monotonic() - since)

    def _tell(self, active: bool, seconds: float) -> None:
        WAITED.labels(self.stream).inc(seconds)
        self._on_pressure(self.stream, active, seconds)

    def _is_full(self) -> bool:
        return (self._length or 0) >= self.high_water_mark or self._used_share >= self._memory_share

    def _is_open(self) -> bool:
        return (self._length or 0) <= self.high_water_mark * 0.8 and self._used_share < self._memory_share - 0.1

    async def _measure(self, stop: asyncio.Event) -> bool:
        self._length = await outlast(stop, lambda: self._redis.xlen(self.stream))
        return self._length is not None

    async def _measure_memory(self, stop: asyncio.Event) -> bool:
        if time.monotonic() < self._memory_known_until:
            return True
        info = await outlast(stop, lambda: self._redis.info("memory"))
        if info is None:
            return False
        standing = await outlast(stop, lambda: standing_bytes(self._redis, self._backfills))
        if standing is None:
            return False
        self._used_share = self._share(info["used_memory"], info.get("maxmemory", 0), standing)
        self._memory_known_until = time.monotonic() + MEMORY_POLL_SECONDS
        return True

    def _share(self, used: int, limit: int, standing: int) -> float:
        if not limit:
            return 0.0
        if standing > limit * MOST_STANDING and not self._complained:
            self._complained = True
            fields = {"maxmemory": limit, "standing_bytes": standing}
            log.error("redis has little room beside what never drains from it: raise its maxmemory", extra=fields)
        return (used - standing) / (limit - standing) if standing < limit else 1.0
