"""Redis streams, as every daemon writes and reads them.

Each stream has one consumer group, so an acked entry is a deleted entry, and the length of a stream is the
work not yet done (docs/invariants.md 1-3).
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from common.backpressure import Room
from common.daemon import stopped_within
from common.delivery import Delivery
from common.redis_connection import BLOCK_SECONDS, code_of, is_outage, outlast
from common.retry import Backoff

FIREHOSE_LIVE = "firehose_live"
FIREHOSE_BACKFILL = "firehose_backfill"
REPO_BACKFILL = "repo_backfill"
REPO_BACKFILL_HIGH = "repo_backfill_high"  # jobs of the same shape, for which those of repo_backfill wait
REPO_BACKFILL_DLQ = "repo_backfill_dlq"
LABEL_LIVE = "label_live"
_START = b"0-0"
READ_AT_ONCE = 500
ENOUGH_BYTES = 16 << 20  # of payload: a batch that holds so much is whole, however few its entries

log = logging.getLogger(__name__)

# KEYS: stream, cursor (may be absent). ARGV: field, expected cursor, new cursor, payloads. Entries and the cursor that
# covers them land together or not at all; a repeated call finds its own cursor and adds nothing.
_APPEND = """
if KEYS[2] then
  local stored = redis.call('GET', KEYS[2]) or ''
  if stored == ARGV[3] then return {'ALREADY', redis.call('XLEN', KEYS[1])} end
  if stored ~= ARGV[2] then return {'FENCED', stored} end
end
for i = 4, #ARGV do redis.call('XADD', KEYS[1], '*', ARGV[1], ARGV[i]) end
if KEYS[2] then redis.call('SET', KEYS[2], ARGV[3]) end
return {'OK', redis.call('XLEN', KEYS[1])}
"""


class Fenced(Exception):
    """The stored cursor is not the one we left there: another process writes, or Redis went back in time."""

    def __init__(self, stored: str) -> None:
        super().__init__(f"the stored cursor is {stored!r}")
        self.stored = stored


class StreamWriter:
    """Appends payloads to one field of a stream, waiting (never dropping) while it is full or Redis is away."""

    def __init__(self, redis: Redis, stream: str, field: str, room: Room) -> None:
        self.stream = stream
        self._redis = redis
        self._field = field
        self._room = room
        self._append = redis.register_script(_APPEND)

    async def append(self, payloads: Sequence[bytes], stop: asyncio.Event) -> bool:
        """False if the daemon was told to stop before all was written."""
        return await self._run([self.stream], ["", ""], payloads, stop)

    async def append_with_cursor(
        self, payloads: Sequence[bytes], cursor_key: str, expected: str, new: str, stop: asyncio.Event
    ) -> bool:
        """As append, and in the same step the cursor goes from `expected` ('' if unset) to `new`. Raises Fenced."""
        if new == expected:
            raise ValueError("entries and their cursor move together: the cursor must change")
        return await self._run([self.stream, cursor_key], [expected, new], payloads, stop)

    async def _run(self, keys: list[str], cursor: list[str], payloads: Sequence[bytes], stop: asyncio.Event) -> bool:
        if not await self._room.wait(stop):
            return False
        answer: Any = await outlast(stop, lambda: self._append(keys=keys, args=[self._field, *cursor, *payloads]))
        if answer is None:
            return False
        if answer[0] == b"FENCED":
            raise Fenced(answer[1].decode())
        self._room.observe(answer[1])
        return True


class StreamConsumer:
    """Reads batches of one stream as a member of its consumer group.

    Delivery is at least once: an entry stays pending until acked. After every reconnect the consumer reads
    its own pending entries again, and what a dead consumer left behind is claimed and processed by the living.
    """

    def __init__(
        self,
        redis: Redis,
        stream: str,
        group: str,
        name: str,
        *,
        field: str,
        batch_size: int,
        claim_idle_seconds: float = 60.0,
        on_ack_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.stream = stream
        self.group = group
        self._redis = redis
        self._name = name
        self._field = field.encode()
        self.batch_size = batch_size
        self._claim_idle_seconds = claim_idle_seconds
        self._on_ack_failure = on_ack_failure
        self._in_hand: set[bytes] = set()
        self._next_claim = 0.0
        self._claim_from = _START

    async def batches(self, stop: asyncio.Event) -> AsyncIterator[list[Delivery]]:
        """Entries until told to stop; an empty list when there was nothing for BLOCK_SECONDS."""
        own, backoff = True, Backoff()
        while not stop.is_set():
            try:
                batch = await self._own_pending() if own else []
                own = bool(batch)
                batch = batch or await self._abandoned() or await self._fresh()
            except (RedisError, OSError) as error:
                own = True
                if code_of(error) == "NOGROUP":
                    await outlast(stop, self._make_group)
                elif is_outage(error):
                    if backoff.failures == 0:
                        log.warning("redis is away, waiting", extra={"error": str(error)})
                    await stopped_within(stop, backoff.next_seconds())
                else:
                    raise
                continue
            backoff.reset()
            self._in_hand.update(delivery.id for delivery in batch)
            yield batch

    async def ack(self, deliveries: Iterable[Delivery], stop: asyncio.Event) -> None:
        """Finished: acked and deleted. Not in MULTI, which a full Redis refuses before 7.4."""
        ids = [delivery.id for delivery in deliveries]
        if not ids:
            return
        await outlast(stop, lambda: self._ack(ids), self._on_ack_failure)
        self._in_hand.difference_update(ids)

    async def _ack(self, ids: list[bytes]) -> bool:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xack(self.stream, self.group, *ids)
            pipe.xdel(self.stream, *ids)
            await pipe.execute()
        return True

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Not finished: left pending, for us to read again after a reconnect or for others to claim."""
        self._in_hand.difference_update(delivery.id for delivery in deliveries)

    async def hold(self, stop: asyncio.Event) -> None:
        """Service, for who may be longer with its entries than others wait: tells the group that they are in hand."""
        while not await stopped_within(stop, self._claim_idle_seconds / 3):
            try:
                await self._touch()
            except (RedisError, OSError) as error:
                if not is_outage(error) and code_of(error) != "NOGROUP":
                    raise

    async def _touch(self) -> None:
        if self._in_hand:
            await self._redis.xclaim(self.stream, self.group, self._name, 0, list(self._in_hand), justid=True)

    async def _make_group(self) -> None:
        """Only where there is none: a full Redis refuses, and who is in the group must be able to drain it."""
        try:
            await self._redis.xgroup_create(self.stream, self.group, id="0", mkstream=True)
        except ResponseError as error:
            if code_of(error) != "BUSYGROUP":
                raise

    async def _own_pending(self) -> list[Delivery]:
        """Ours that nobody holds: pages of the pending list until one is empty."""
        after = b"0"
        while rows := await self._read(after, min(self.batch_size, READ_AT_ONCE)):
            if fresh := self._not_in_hand(rows):
                return fresh
            after = rows[-1][0]
        return []

    async def _fresh(self) -> list[Delivery]:
        """Waits for the first; from then on what is there, in parts, for large entries must not fill the memory."""
        found: list[Delivery] = []
        size = 0
        while (left := self.batch_size - len(found)) > 0 and size < ENOUGH_BYTES:
            count = min(left, READ_AT_ONCE)
            rows = await self._read(b">", count, block=not found)
            part = self._not_in_hand(rows)
            found += part
            size += sum(len(delivery.payload or b"") for delivery in part)
            if len(rows) < count:
                break
        return found

    async def _read(self, after: bytes, count: int, *, block: bool = False) -> list[Any]:
        block_ms = int(BLOCK_SECONDS * 1000) if block else None
        reply: Any = await self._redis.xreadgroup(self.group, self._name, {self.stream: after}, count, block_ms)
        return list(reply[0][1]) if reply else []

    async def _abandoned(self) -> list[Delivery]:
        """What other consumers hold without a sign of life; our own entries in hand give that sign here."""
        if time.monotonic() < self._next_claim:
            return []
        idle_ms = int(self._claim_idle_seconds * 1000)
        await self._touch()
        while True:
            self._claim_from, rows, _ = await self._redis.xautoclaim(
                self.stream, self.group, self._name, idle_ms, self._claim_from, count=min(self.batch_size, READ_AT_ONCE)
            )
            if self._claim_from == _START:
                self._next_claim = time.monotonic() + self._claim_idle_seconds / 3
            if (claimed := self._not_in_hand(rows)) or self._claim_from == _START:
                return claimed

    def _not_in_hand(self, rows: list[Any]) -> list[Delivery]:
        return [
            Delivery(id, fields.get(self._field) if fields else None, fields or {})
            for id, fields in rows
            if id not in self._in_hand
        ]
