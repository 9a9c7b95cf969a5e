"""Hosts on loopback that say over a websocket what a test gives them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from aiohttp import ClientSession, web

from common.dag_cbor import encode
from ingester.accounts import FIREHOSE, Account
from ingester.dead_frames import Burial
from ingester.frames import events_of
from ingester.framing import FrameResult
from ingester.gap_watch import GapWatch
from ingester.metrics import HostMeter
from ingester.reading_ahead import PlainReader, ReadAhead
from ingester.reading_ahead import Reader as Reads
from ingester.subscription import MAX_FRAME_BYTES, Subscription
from tests.serving import serving
from tests.signed_repos import DID

TOO_LARGE = bytes(MAX_FRAME_BYTES + 1)
Script = Callable[[web.WebSocketResponse], Awaitable[None]]


class Host:
    """Every connection does what the script says; what was asked is kept."""

    def __init__(self) -> None:
        self.script: Script = said()
        self.cursors: list[int] = []
        self.refusal: web.Response | None = None
        self.url = ""

    def has(self, frames: Mapping[int, bytes], at_the_end: Sequence[bytes] = ()) -> None:
        """As a relay does: what comes after the cursor, and an error to whoever asks for what lies beyond it all."""

        async def script(socket: web.WebSocketResponse) -> None:
            cursor = self.cursors[-1]
            after = [frame for seq, frame in frames.items() if seq > cursor]
            with suppress(ConnectionError):  # who finds a frame too large has gone
                await said(*(after or at_the_end if cursor <= max(frames) else [error("FutureCursor")]))(socket)

        self.script = script

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.cursors.append(int(request.query["cursor"]))
        if self.refusal is not None:
            return self.refusal
        socket = web.WebSocketResponse(compress=False, autoping=False)
        await socket.prepare(request)
        await self.script(socket)
        return socket


class Reader:
    """A subscription, and the numbers of what it delivered. `reads` are what else than in this process reads frames."""

    def __init__(
        self,
        http: ClientSession,
        url: str,
        reads: Reads | None = None,
        *,
        idle_seconds: float = 30.0,
        gaps: GapWatch | None = None,
        burial: Burial | None = None,
    ) -> None:
        self.seqs: list[int] = []
        self.dropped: list[dict[str, int]] = []
        self._subscription = Subscription(
            http,
            url,
            partial(ReadAhead, reads or PlainReader(partial(events_of, is_wanted=lambda collection: True)), None),
            idle_seconds=idle_seconds,
            account=Account(FIREHOSE),
            meter=HostMeter(FIREHOSE.name, "here"),
            gaps=gaps,
            burial=burial,
        )

    async def session(
        self, position: int = 0, deliver: Callable[[FrameResult], Awaitable[None]] | None = None
    ) -> float:
        async with asyncio.timeout(20):
            return await self._subscription.session(position, deliver or self._keep)

    async def _keep(self, result: FrameResult) -> None:
        self.seqs.append(result.seq)
        self.dropped.append(result.dropped)


@asynccontextmanager
async def websocket_host() -> AsyncIterator[Host]:
    host = Host()
    async with serving(web.get("/subscribe", host.serve)) as origin:
        host.url = f"ws://{origin}/subscribe"
        yield host


def identity(seq: int, **more: Any) -> bytes:
    body = {"seq": seq, "did": DID, "time": "2026-11-20T00:00:00Z"} | more
    return encode({"op": 1, "t": "#identity"}) + encode(body)


def error(name: str) -> bytes:
    return encode({"op": -1}) + encode({"error": name})


def said(*messages: bytes | str) -> Script:
    """Say this, and leave."""

    async def script(socket: web.WebSocketResponse) -> None:
        for message in messages:
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))

    return script
