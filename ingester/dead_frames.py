"""Frames that were given up, in Redis with their bytes, so that people can see what they were. The newest are kept."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from common.redis_connection import outlast_unless_cancelled
from common.syntax import utc_text

FRAMES = "ingester:dead_frames"  # a hash: what they are, by id
AGES = "ingester:dead_frames:ages"  # a sorted set: their ids, by when they were buried
MOST_FRAMES, MOST_BYTES = 256, 1 << 18  # of each frame; 64 MB of Redis at most

# KEYS: frames, ages. ARGV: id, frame, milliseconds now, the most frames. To do it twice adds nothing.
_BURY = """
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[4])
if over > 0 then
  for index, id in ipairs(redis.call('ZPOPMIN', KEYS[2], over)) do
    if index % 2 == 1 then redis.call('HDEL', KEYS[1], id) end
  end
end
return 1
"""
_encoder = msgspec.msgpack.Encoder()


class DeadFrame(Struct, frozen=True, kw_only=True):
    """`seq` is 0 where it could not be read: the frame came after the event `after` of its host.

    `start` is all of it up to MOST_BYTES, and nothing of one that was too large to be received; `size` is 0 then.
    """

    source: str
    host: str
    after: int
    seq: int
    reason: str
    size: int
    start: bytes
    at: str

    @property
    def id(self) -> str:
        """The same for the same frame, however often the host sends it."""
        which = self.start or str(self.seq).encode()
        return sha256(f"{self.source}/{self.host}/{self.size}/".encode() + which).hexdigest()[:16]


_decoder = msgspec.msgpack.Decoder(DeadFrame)


class Burial:
    """Of the frames of one host."""

    def __init__(self, redis: Redis, source: str, host: str) -> None:
        self._script = redis.register_script(_BURY)
        self._source = source
        self._host = host

    async def bury(self, reason: str, frame: bytes = b"", *, after: int, seq: int = 0) -> None:
        """Waits until Redis is back. May be cancelled."""
        now = datetime.now(UTC)
        dead = DeadFrame(
            source=self._source,
            host=self._host,
            after=after,
            seq=seq,
            reason=reason,
            size=len(frame),
            start=frame[:MOST_BYTES],
            at=utc_text(now),
        )
        arguments: list[str | bytes | int] = [dead.id, _encoder.encode(dead), int(now.timestamp() * 1000), MOST_FRAMES]
        await outlast_unless_cancelled(lambda: self._script(keys=[FRAMES, AGES], args=arguments))


async def buried(redis: Redis) -> AsyncIterator[DeadFrame]:
    """The oldest first, one at a time, for they may be large."""
    ids: Any = await redis.zrange(AGES, 0, -1)
    for id in ids:
        found: Any = await redis.hget(FRAMES, id)
        if found is not None:
            yield _decoder.decode(found)


async def forget(redis: Redis, id: str) -> None:
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hdel(FRAMES, id)
        pipe.zrem(AGES, id)
        await pipe.execute()
