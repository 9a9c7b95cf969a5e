"""One subscription to one host: a connection at a time, and how long to wait before the next."""

import asyncio
import logging
import time

from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    DummyCookieJar,
    WSServerHandshakeError,
)

from common.outbound import USER_AGENT
from common.rate_limits import retry_after
from common.retry import Backoff
from ingester.accounts import Account
from ingester.connection import CLOSE_SECONDS, Connection, Deliver, Ending, Reading
from ingester.dead_frames import Burial
from ingester.framing import ERROR, FrameResult
from ingester.gap_watch import GapWatch
from ingester.metrics import HostMeter
from ingester.stepping_over import oversized_after

MAX_FRAME_BYTES = 8 << 20  # the protocol allows 5 MB, more than most libraries do unless told
CONNECT_SECONDS = 30.0
TRIES_AT_A_FRAME = 3

log = logging.getLogger(__name__)


def websocket_client() -> ClientSession:
    """For hosts that the operator names, wherever they are."""
    return ClientSession(
        timeout=ClientTimeout(total=None),  # a websocket stays open
        cookie_jar=DummyCookieJar(),
        headers={"User-Agent": USER_AGENT},
        trust_env=False,
    )


class Subscription:
    """Remembers how the last connections went, so that trouble is logged once and waits grow."""

    def __init__(
        self,
        http: ClientSession,
        url: str,
        reading: Reading,
        *,
        idle_seconds: float,
        account: Account,
        meter: HostMeter,
        gaps: GapWatch | None = None,
        burial: Burial | None = None,
    ) -> None:
        self._http = http
        self._url = url
        self._reading = reading
        self._idle_seconds = idle_seconds
        self._account = account
        self._meter = meter
        self._gaps = gaps
        self._burial = burial
        self._backoff = Backoff(0.5, 60.0)
        self._trouble = ""
        self._oversized = 0

    async def session(self, position: int, deliver: Deliver) -> float:
        """Deliver every frame after `position` until the connection ends; the seconds to wait before the next one.

        May be cancelled at any time.
        """
        try:
            socket = await self._connect(position)
        except WSServerHandshakeError as refusal:
            asked = retry_after(refusal.headers or {}, time.time())
            return self._ended(Ending("refused", f"HTTP {refusal.status}", asked or 0.0), position)
        except (ClientError, OSError, TimeoutError) as error:
            return self._ended(Ending("unreachable", str(error) or type(error).__name__), position)
        log.info("connected", extra={"url": self._url, "cursor": position})
        connection = Connection(
            socket,
            position,
            self._reading,
            self._account,
            self._meter,
            on_outdated=self._gaps.outdated if self._gaps else lambda: None,
            burial=self._burial,
        )
        watched = self._gaps.watching(position, deliver) if self._gaps else deliver
        with self._meter.connection():
            ending = await connection.run(watched, self._idle_seconds)
        if ending.reason == "future_cursor" and self._gaps:
            await self._gaps.future()
        if connection.position > position:
            self._backoff.reset()
            self._trouble, self._oversized = "", 0
        if ending.reason == "oversized":
            await self._step_over(connection.position, deliver)
        return self._ended(ending, connection.position)

    async def _connect(self, position: int) -> ClientWebSocketResponse:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await self._http.ws_connect(
                f"{self._url}?cursor={position}",
                max_msg_size=MAX_FRAME_BYTES,
                compress=0,
                timeout=ClientWSTimeout(ws_close=CLOSE_SECONDS),
            )

    async def _step_over(self, position: int, deliver: Deliver) -> None:
        """The host would send this frame for ever."""
        self._oversized += 1
        if self._oversized < TRIES_AT_A_FRAME:
            return
        seq = await oversized_after(position, self._connect)
        if seq is None:
            return
        log.error("stepping over a frame that is too large", extra={"url": self._url, "seq": seq})
        if self._gaps is not None:
            await self._gaps.stepping_over(position)
        if self._burial is not None:
            await self._burial.bury("oversized_frame", after=position, seq=seq)
        await deliver(FrameResult(kind=ERROR, seq=seq, received=1, dropped={"oversized_frame": 1}))
        self._oversized = 0
        self._backoff.reset()

    def _ended(self, ending: Ending, position: int) -> float:
        self._account.error(ending.reason)
        if ending.reason != self._trouble:
            self._trouble = ending.reason
            fields = {"url": self._url, "reason": ending.reason, "detail": ending.detail, "cursor": position}
            if ending.reason == "future_cursor":
                log.error(
                    "the host does not know our cursor: it was reset, or is another host. Trying again; if it stays so,"
                    " pause the source and begin with the oldest event: sluice cursor set HOST 0 --force",
                    extra=fields,
                )
            else:
                log.warning("not connected, trying again", extra=fields)
        return max(self._backoff.next_seconds(), ending.wait_seconds)
