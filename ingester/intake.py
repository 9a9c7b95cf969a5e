"""One host's subscription into one stream: read, encode, batch, write together with the cursor."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from redis.asyncio import Redis

from common.daemon import stopped_within
from common.retry import Backoff
from common.streams import Fenced
from ingester.accounts import Account, units
from ingester.batching import BatchLimits, Buffer
from ingester.cursors import sequence_number, stored_cursor
from ingester.framing import FrameResult
from ingester.metrics import HostMeter
from ingester.subscription import Subscription
from ingester.writing import BatchWriter

Verify = Callable[[FrameResult], Awaitable[FrameResult]]
log = logging.getLogger(__name__)


class Intake:
    """A service. Every connection begins at the stored cursor and ends with everything read from it written.

    If another process moves the cursor, what is in memory is thrown away: the host sends it again. `verify` may take
    its time, and may be cancelled: the frame in its hands is then not yet in memory.
    """

    def __init__(
        self,
        redis: Redis,
        subscription: Subscription,
        writer: BatchWriter,
        *,
        cursor_key: str,
        limits: BatchLimits,
        account: Account,
        meter: HostMeter,
        verify: Verify | None = None,
    ) -> None:
        self._redis = redis
        self._subscription = subscription
        self._writer = writer
        self._cursor_key = cursor_key
        self._limits = limits
        self._account = account
        self._meter = meter
        self._verify = verify
        self._held = 0
        self._backoff = Backoff()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            stored = await stored_cursor(self._redis, self._cursor_key, stop)
            if stored is None:
                return
            wait_seconds = 0.0
            try:
                wait_seconds = await self._session(stored, stop)
            except* Fenced as fences:
                wait_seconds = self._stand_back(fences)
            finally:
                self._discard()
            await stopped_within(stop, wait_seconds)

    async def _session(self, stored: str, stop: asyncio.Event) -> float:
        """One connection; the seconds to wait before the next one."""
        position = sequence_number(self._cursor_key, stored)
        self._meter.saved(position)
        buffer = Buffer(self._limits)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(buffer, stored, stop))
            reading = tasks.create_task(self._subscription.session(position, partial(self._deliver, buffer)))
            stopping = tasks.create_task(_cancel_at(stop, reading))
            await asyncio.wait([reading])
            stopping.cancel()
            buffer.close()
        return 0.0 if reading.cancelled() else reading.result()

    async def _deliver(self, buffer: Buffer, result: FrameResult) -> None:
        if self._verify is not None:
            result = await self._verify(result)
        if buffer.is_full:
            await buffer.room()
        held = units(result.events)
        self._held += held
        self._account.accept(result, held)
        buffer.add(self._writer.told(result, held))

    async def _write(self, buffer: Buffer, stored: str, stop: asyncio.Event) -> None:
        while (batch := await buffer.take()) is not None:
            self._meter.received(batch.seq, batch.time)
            dropped = await self._writer.write(batch, self._cursor_key, stored, stop)
            if dropped is None:
                return
            stored = str(batch.seq)
            self._held -= batch.units
            self._account.written(batch.units, dropped)
            self._meter.saved(batch.seq)
            self._backoff.reset()

    def _stand_back(self, fences: BaseExceptionGroup[Fenced]) -> float:
        self._account.error("fenced")
        fields = {"key": self._cursor_key, "detail": str(fences.exceptions[0])}
        log.warning("the cursor was moved by someone else, starting again from it", extra=fields)
        return self._backoff.next_seconds()

    def _discard(self) -> None:
        if self._held:
            self._account.discarded(self._held)
            self._held = 0


async def _cancel_at(stop: asyncio.Event, task: "asyncio.Task[float]") -> None:
    await stop.wait()
    task.cancel()
