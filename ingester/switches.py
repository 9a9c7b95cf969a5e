"""Whether a source runs: a switch for each, which people may turn while the ingester runs."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.daemon import Service, run_until, stopped_within
from common.redis_connection import outlast
from ingester.metrics import PAUSED, HostMeter

READING_SECONDS = 15


def reading_key(cursor_key: str) -> str:
    """There while an ingester moves this cursor, and a few seconds longer if it was killed."""
    return f"ingester:reading:{cursor_key}"


@dataclass(frozen=True)
class HostSource:
    """One host that is read for one purpose; `kind` is that of an account's source, `meter` that of a subscription."""

    kind: str
    host: str
    cursor_key: str
    service: Service
    meter: HostMeter | None = None
    label: str = ""  # what metrics call the host, if not by its name

    @property
    def name(self) -> str:
        """As people call it: firehose/bsky.network."""
        return f"{self.kind}/{self.host}"


class Switch:
    """Runs a source while it is on. Turned off, the source ends as if the daemon did: what was read is written."""

    def __init__(self, redis: Redis, source: HostSource) -> None:
        self.source = source
        self.is_paused: bool | None = None  # nobody has said yet, so it waits
        self._redis = redis
        self._turned = asyncio.Event()

    def turn(self, *, paused: bool) -> None:
        if paused == self.is_paused:
            return
        self.is_paused = paused
        PAUSED.labels(self.source.kind, self.source.label or self.source.host).set(paused)
        self._turned.set()
        self._turned = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Service."""
        while not stop.is_set():
            turned = self._turned
            await run_until(self._rest if self.is_paused is not False else self._read, stop, turned)

    async def _rest(self, stop: asyncio.Event) -> None:
        await stop.wait()

    async def _read(self, stop: asyncio.Event) -> None:
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._say_so(ended))
            try:
                await self.source.service(stop)
            finally:
                ended.set()

    async def _say_so(self, ended: asyncio.Event) -> None:
        """For whoever would set the cursor meanwhile."""
        key = reading_key(self.source.cursor_key)
        while not ended.is_set():
            await outlast(ended, lambda: self._redis.set(key, 1, ex=READING_SECONDS))
            await stopped_within(ended, READING_SECONDS / 3)
        with suppress(RedisError, OSError):
            await self._redis.delete(key)
