"""One open websocket: frames in order of their sequence numbers, until it ends. Knows no lexicon."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import ClientWebSocketResponse, WebSocketError, WSMessage, WSMsgType

from ingester.accounts import Account
from ingester.dead_frames import Burial
from ingester.framing import ERROR, INFO, FrameResult, Unreadable
from ingester.metrics import HostMeter
from ingester.reading_ahead import ReadAhead
from ingester.stepping_over import is_too_large

PING_SECONDS = 20.0
CLOSE_SECONDS = 1.0
FUTURE_CURSOR_SECONDS = 60.0
_ERROR_FRAMES = {
    "FutureCursor": ("future_cursor", FUTURE_CURSOR_SECONDS),
    "ConsumerTooSlow": ("consumer_too_slow", 0.0),
}

Deliver = Callable[[FrameResult], Awaitable[None]]
Reading = Callable[[asyncio.TaskGroup], ReadAhead]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """Why a connection ended, or did not begin. `wait_seconds` is the least wait before the next one."""

    reason: str
    detail: str
    wait_seconds: float = 0.0


class Connection:
    """`position` is the highest sequence number delivered; `started_at` the one asked for."""

    def __init__(
        self,
        socket: ClientWebSocketResponse,
        position: int,
        reading: Reading,
        account: Account,
        meter: HostMeter,
        *,
        on_outdated: Callable[[], None] = lambda: None,
        burial: Burial | None = None,
    ) -> None:
        self.position = self.started_at = position
        self._socket = socket
        self._reading = reading
        self._account = account
        self._meter = meter
        self._on_outdated = on_outdated
        self._burial = burial
        self._messages = 0
        self._delivering = False
        self._complained = False

    async def run(self, deliver: Deliver, idle_seconds: float) -> Ending:
        """Deliver frames until the connection ends. May be cancelled at any time."""
        try:
            async with asyncio.TaskGroup() as tasks:
                ahead = self._reading(tasks)
                receiving = tasks.create_task(self._receive(ahead))
                delivering = tasks.create_task(self._deliver(ahead, deliver))
                watching = tasks.create_task(self._watch(idle_seconds, ahead, delivering))
                await asyncio.wait([delivering])
                ahead.abandon()
                receiving.cancel()
                watching.cancel()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._socket.close()
        if delivering.cancelled():
            return Ending("idle", f"nothing came for {idle_seconds:g} s")
        return delivering.result() or receiving.result()

    async def _watch(self, idle_seconds: float, ahead: ReadAhead, delivering: "asyncio.Task[Ending | None]") -> None:
        """End a silent connection. The library's heartbeat would also end one that waits for room in the stream."""
        period = min(PING_SECONDS, idle_seconds / 3)
        silent, seen = 0.0, self._messages
        while silent < idle_seconds:
            await asyncio.sleep(period)
            is_busy = self._delivering or not ahead.is_empty
            silent = silent + period if self._messages == seen and not is_busy else 0.0
            seen = self._messages
            with suppress(ConnectionError):
                await self._socket.ping()
        delivering.cancel()

    async def _receive(self, ahead: ReadAhead) -> Ending:
        try:
            while True:
                message = await self._socket.receive()
                if message.type is WSMsgType.BINARY:
                    self._messages += 1
                    await ahead.put(message.data)
                elif message.type is WSMsgType.TEXT:
                    self._account.frame("unreadable")
                else:
                    return self._ending(message)
        finally:
            ahead.close()

    async def _deliver(self, ahead: ReadAhead, deliver: Deliver) -> Ending | None:
        """What a frame says of the connection's end; None if the socket came to its end."""
        async for result in ahead:
            if isinstance(result, Unreadable):
                await self._give_up(result)
            elif (ending := await self._take(result, deliver)) is not None:
                return ending
        return None

    async def _give_up(self, unreadable: Unreadable) -> None:
        """It moves nothing: the next good frame takes the cursor past it."""
        if self._burial is not None:
            self._delivering = True
            await self._burial.bury(unreadable.reason, unreadable.frame, after=self.position)
            self._delivering = False
        self._account.frame("unreadable")
        self._account.received(1, 0, {unreadable.reason: 1})

    async def _take(self, result: FrameResult, deliver: Deliver) -> Ending | None:
        self._account.frame(result.kind)
        if not result.seq:
            return self._heed(result)
        if result.seq <= self.position:
            self._drop_replayed(result)
            return None
        self._delivering = True
        await deliver(result)
        self._delivering = False
        self.position = result.seq
        return None

    def _heed(self, notice: FrameResult) -> Ending | None:
        if notice.kind == ERROR:
            reason, wait_seconds = _ERROR_FRAMES.get(notice.name, ("error_frame", 0.0))
            return Ending(reason, f"{notice.name}: {notice.text}", wait_seconds)
        if notice.kind == INFO:
            fields = {"notice": notice.name, "detail": notice.text, "cursor": self.started_at}
            if notice.name == "OutdatedCursor" and self.started_at:
                self._on_outdated()
                log.error("the host no longer has the events after our cursor", extra=fields)
            else:
                log.info("the host says", extra=fields)
        return None

    def _drop_replayed(self, result: FrameResult) -> None:
        """The event at the cursor itself may come again; anything else is a host whose sequence runs backwards."""
        self._account.received(result.received, 0, {"replayed": result.received})
        if result.seq != self.started_at and not self._complained:
            self._complained = True
            fields = {"seq": result.seq, "after": self.position}
            log.error("the host's sequence runs backwards; such frames are dropped", extra=fields)

    def _ending(self, message: WSMessage) -> Ending:
        if isinstance(message.data, WebSocketError):
            return Ending("oversized" if is_too_large(message) else "protocol", str(message.data))
        return Ending("closed", f"close code {self._socket.close_code}")
