"""Jobs outside the stream, parked until their time comes. An entry is acked only together with that.

Parked jobs are a sorted set beside the stream, `{stream}:parked`: the job's JSON, scored with the time it is due, in
milliseconds of Redis' own clock. So a wait costs neither a slot nor a place in the list of pending entries. They have a
mark of their own: while as many are parked no other job is taken, the stream fills, and who fills it waits.
"""

import asyncio
from typing import Any

from redis.asyncio import Redis

from common.daemon import stopped_within
from common.delivery import Delivery
from common.events import JOB_FIELD
from common.redis_connection import outlast
from common.streams import StreamConsumer

PAGE = 500
DEFAULT_MARK = 1_000_000
LONGEST_SLEEP_SECONDS = 0.5  # another backfiller may park a job that is due earlier than those we know of
SHORTEST_SLEEP_SECONDS = 0.02

# It begins with the ack: who finds nothing to ack has a retry in hand, and does nothing. As the first write
# it also opens the way for the others where Redis is full (it refuses a script only before its first write).
_PARK = """
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
local now = redis.call('TIME')
local due = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3]
redis.call('ZADD', KEYS[2], due, ARGV[4])
redis.call('XDEL', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[2])
"""

_RETURN_DUE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, job in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  redis.call('XADD', KEYS[1], '*', ARGV[1], job)
  redis.call('ZREM', KEYS[2], job)
end
local next = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {redis.call('ZCARD', KEYS[2]), next[2] and next[2] - now or ARGV[3]}
"""


def parked_key(stream: str) -> str:
    return f"{stream}:parked"


class Parking:
    """Takes entries off the stream of `consumer`, and brings parked jobs back to it."""

    def __init__(
        self,
        redis: Redis,
        consumer: StreamConsumer,
        *,
        mark: int = DEFAULT_MARK,
    ) -> None:
        """`mark`: parked jobs at which it is full."""
        self.parked = 0  # as last seen
        self._is_seen = False
        self._mark = mark
        self._consumer = consumer
        self._stream = consumer.stream
        self._parked = parked_key(consumer.stream)
        self._park = redis.register_script(_PARK)
        self._return_due = redis.register_script(_RETURN_DUE)

    @property
    def is_full(self) -> bool:
        return self.parked >= self._mark

    async def park(self, delivery: Delivery, job: bytes, seconds: float, stop: asyncio.Event) -> None:
        args: list[str | bytes | int] = [self._consumer.group, delivery.id, int(seconds * 1000), job]
        parked = await outlast(stop, lambda: self._park(keys=[self._stream, self._parked], args=args))
        self.parked = parked or self.parked
        self._consumer.release([delivery])

    async def wait(self, stop: asyncio.Event) -> bool:
        """Until fewer are parked than may be: they come back as they are due. False if told to stop meanwhile.

        Nobody goes on before `return_due` has looked how many there are.
        """
        while self.is_full or not self._is_seen:
            if await stopped_within(stop, SHORTEST_SLEEP_SECONDS):
                return False
        return True

    async def return_due(self, stop: asyncio.Event) -> None:
        """Service: what is due goes back to the stream, each job in one step."""
        longest_ms = int(LONGEST_SLEEP_SECONDS * 1000)
        while not stop.is_set():
            answer: Any = await outlast(
                stop, lambda: self._return_due(keys=[self._stream, self._parked], args=[JOB_FIELD, PAGE, longest_ms])
            )
            if answer is None:
                return
            self.parked, next_due_ms, self._is_seen = answer[0], int(answer[1]), True
            await stopped_within(stop, min(max(next_due_ms / 1000, SHORTEST_SLEEP_SECONDS), LONGEST_SLEEP_SECONDS))
