"""Jobs that were in hand when the process ended: tried again one at a time, and given up when it happens too often.

Redis counts, in the hash `{stream}:begun`, how often each entry was begun and not left. Whoever is there when another
job kills the process is counted too; so from the second time on a job is begun only while no other suspect is in hand,
and the count finds out which of them it is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.delivery import Delivery
from common.redis_connection import outlast

SUSPECT_AFTER = 2
FORGET_SECONDS = 2.0


class Suspects:
    def __init__(self, redis: Redis, stream: str, most: int) -> None:
        """`most`: how often the process may end with a job in hand before that is given up."""
        self._redis = redis
        self._key = f"{stream}:begun"
        self._most = most
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def begun(self, delivery: Delivery, stop: asyncio.Event) -> AsyncIterator[int]:
        """The time of trying it. Gives how often the process has ended meanwhile if that is too often, else 0.

        Whatever ends the process in it, an error of ours too, stays counted; being told to stop does not.
        """
        async with AsyncExitStack() as stack:
            ended = await self._ended(delivery, stop)
            if ended >= SUSPECT_AFTER:
                await stack.enter_async_context(self._alone)
            if ended < self._most:
                await outlast(stop, lambda: self._redis.hincrby(self._key, delivery.id, 1))
            try:
                yield ended if ended >= self._most else 0
            except asyncio.CancelledError:
                await self._forget(delivery)
                raise
            await self._forget(delivery)

    async def _ended(self, delivery: Delivery, stop: asyncio.Event) -> int:
        count: Any = await outlast(stop, lambda: self._redis.hget(self._key, delivery.id))
        return int(count or 0)

    async def _forget(self, delivery: Delivery) -> None:
        """Before the entry is acked, so that none is remembered that is gone."""
        try:
            async with asyncio.timeout(FORGET_SECONDS):
                await self._redis.hdel(self._key, delivery.id)
        except (RedisError, OSError):
            return  # it counts once too often: twenty bytes, and nothing at all once it is done
