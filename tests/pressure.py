"""A stream that fills and drains, and what a room has told of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from common.backpressure import Room
from tests.waiting import until

STREAM = "firehose_backfill"


@dataclass
class Pressure:
    """What a room has told: each look at the stream, and how long the waits were."""

    told: list[tuple[bool, float]] = field(default_factory=list)

    def __call__(self, stream: str, active: bool, seconds: float) -> None:
        assert stream == STREAM
        self.told.append((active, seconds))

    async def looks(self, more: int = 3) -> None:
        """Until the room has looked so often again, and has not opened."""
        before = len(self.told)
        await until(lambda: len(self.told) >= before + more)
        assert self.told[-1][0]


async def add(redis: Redis, count: int, payload: bytes = b"x") -> None:
    for _ in range(count):
        await redis.xadd(STREAM, {"event": payload})


async def drain(redis: Redis, down_to: int) -> None:
    """As consumers do: by deleting what is done."""
    found: Any = await redis.xrange(STREAM)
    for entry, _ in found[: len(found) - down_to]:
        await redis.xdel(STREAM, entry)


@asynccontextmanager
async def waiting(room: Room, stop: asyncio.Event) -> AsyncIterator["asyncio.Task[bool]"]:
    task = asyncio.create_task(room.wait(stop))
    try:
        yield task
    finally:
        stop.set()
        await task
