"""Repos that were not to be had are looked at again, on a slow schedule: suspensions end, hosts come back."""

import asyncio
import time
from typing import Any

from redis.asyncio import Redis

from common.daemon import stopped_within
from common.events import JOB_FIELD, RepoJob, encode_event
from common.redis_connection import outlast

PAGE = 200
LOOK_SECONDS = 5.0
REASON = "recheck"

# Of many backfillers that look, one finds the DID still there.
_QUEUE = """
for i = 2, #ARGV, 2 do
  if redis.call('ZREM', KEYS[2], ARGV[i]) == 1 then
    redis.call('XADD', KEYS[1], '*', ARGV[1], ARGV[i + 1])
  end
end
"""


class Rechecks:
    """Service: DIDs of the sorted set `key` whose time (Unix seconds) has come go to `stream` as jobs."""

    def __init__(
        self,
        redis: Redis,
        stream: str,
        key: str,
    ) -> None:
        self._redis = redis
        self._stream = stream
        self._key = key
        self._queue = redis.register_script(_QUEUE)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            found = await outlast(stop, self._queue_due)
            if not found:
                await stopped_within(stop, LOOK_SECONDS)

    async def _queue_due(self) -> int:
        """How many were due: up to PAGE."""
        due: Any = await self._redis.zrange(self._key, "-inf", time.time(), byscore=True, offset=0, num=PAGE)
        if due:
            args: list[str | bytes] = [JOB_FIELD]
            for did in due:
                args += [did, encode_event(RepoJob(did=did.decode(), reason=REASON))]
            await self._queue(keys=[self._stream, self._key], args=args)
        return len(due)
