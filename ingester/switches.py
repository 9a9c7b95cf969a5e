"""Whether a source runs: a switch for each, which people may turn while the ingester runs."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.daemon import Service
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
        PAUSED.labels(self.source.kind, self.source.host).set(paused)
        self._turned.set()
        self._turned = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Service."""
        while not stop.is_set():
            turned = self._turned
            if self.is_paused is False:
                await self._read_until(stop, turned)
            else:
                await _either(stop, turned)

    async def _read_until(self, stop: asyncio.Event, turned: asyncio.Event) -> None:
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self.source.service(ending), name=self.source.name)
            others = [tasks.create_task(self._say_so()), tasks.create_task(_either(stop, turned))]
            await asyncio.wait([reading, others[1]], return_when=asyncio.FIRST_COMPLETED)
            ending.set()
            await asyncio.wait([reading])
            for task in others:
                task.cancel()

    async def _say_so(self) -> None:
        """For whoever would set the cursor meanwhile."""
        key = reading_key(self.source.cursor_key)
        try:
            while True:
                await outlast(asyncio.Event(), lambda: self._redis.set(key, 1, ex=READING_SECONDS))
                await asyncio.sleep(READING_SECONDS / 3)
        finally:
            with suppress(RedisError, OSError):
                await self._redis.delete(key)


async def _either(stop: asyncio.Event, turned: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(stop.wait()), tasks.create_task(turned.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
