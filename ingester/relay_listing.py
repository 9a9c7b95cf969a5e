"""What a relay lists, its repos or its hosts: read to the end, and again when the time has come."""

import asyncio
import time
from typing import Any, Protocol

from redis.asyncio import Redis

from common.daemon import stopped_within
from common.redis_connection import outlast
from ingester.cursors import LISTING_DONE

RECHECK_SECONDS = 60.0

# KEYS: cursor, since when it has stood at the end. ARGV: the mark of the end, now, seconds until the next listing (0:
# never). The listing that is due begins with the cursor's deletion. 1 while there is nothing to do.
_REST = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  redis.call('DEL', KEYS[2])
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'NX')
local seconds = tonumber(ARGV[3])
if seconds == 0 or tonumber(ARGV[2]) < tonumber(redis.call('GET', KEYS[2])) + seconds then return 1 end
redis.call('DEL', KEYS[1], KEYS[2])
return 0
"""


def listed_key(cursor_key: str) -> str:
    """Since when this cursor has stood at the end."""
    return f"ingester:listed:{cursor_key}"


class Listing(Protocol):
    """Keeps its position under a key."""

    async def to_its_end(self, stop: asyncio.Event) -> bool:
        """False if it was told to stop before."""


class RelayListing:
    """A service. It begins again `repeat_seconds` after its end (0: never), or when the cursor's key is deleted."""

    def __init__(
        self,
        redis: Redis,
        listing: Listing,
        *,
        key: str,
        repeat_seconds: float,
    ) -> None:
        self._rest = redis.register_script(_REST)
        self._listing = listing
        self._keys = [key, listed_key(key)]
        self._repeat_seconds = repeat_seconds

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if await self._listing.to_its_end(stop):
                await self._until_due(stop)

    async def _until_due(self, stop: asyncio.Event) -> None:
        while await outlast(stop, self._rests) and not await stopped_within(stop, RECHECK_SECONDS):
            pass

    async def _rests(self) -> Any:
        return await self._rest(keys=self._keys, args=[LISTING_DONE, int(time.time()), int(self._repeat_seconds)])
