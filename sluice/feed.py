"""One recorded event stream as a websocket: the frames after a cursor, and then whatever comes."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass

import libipld
from aiohttp import web

from sluice.recording import Frames, seq_of

TURN_FRAMES = 256
LEAD_SECONDS = 0.005


@dataclass
class FeedFaults:
    """What goes wrong with the connections of a feed; set and healed while it runs."""

    cut_after: int | None = None  # frames after which every connection breaks off
    last_words: bytes | None = None  # sent before it does
    opening: bytes | None = None  # sent first; the connection ends there if it is an error frame
    oldest_seq: int = 0  # frames before this one are no longer kept
    hides_outdated: bool = False  # a reader who asks for those is not told that they are gone


class Feed:
    """The recorded frames and those appended since, for any number of readers, each at its own speed."""

    def __init__(self, recorded: Frames, pace: float | None = None) -> None:
        """`pace` is in frames a second for each connection; None is as fast as the reader reads."""
        self._recorded = recorded
        self._appended: list[tuple[int, bytes]] = []
        self._grown = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._up_to: int | None = None
        self.pace = pace
        self.faults = FeedFaults()
        self.sent = 0  # frames handed to sockets since the start

    def __len__(self) -> int:
        return len(self._recorded) + len(self._appended)

    @property
    def last_seq(self) -> int:
        return self._seq(len(self) - 1) if len(self) else 0

    def append(self, frame: bytes) -> None:
        """One more frame, of any bytes: it is sent to every reader that has reached the end."""
        self._appended.append((max(seq_of(frame) or 0, self.last_seq), frame))
        self._grown.set()
        self._grown = asyncio.Event()

    def pause(self) -> None:
        """Connections stay open and nothing is sent."""
        self._flowing.clear()

    def resume(self, *, up_to: int | None = None) -> None:
        """`up_to`: so many frames from the first one on, and then it pauses again."""
        self._up_to = up_to
        self._flowing.set()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Frames with seq > `cursor`; without a cursor only new ones (spec: event-stream, "Sequence numbers")."""
        cursor = request.query.get("cursor")
        if cursor is not None and not cursor.isdecimal():
            raise web.HTTPBadRequest(
                text='{"error":"InvalidRequest","message":"cursor is no number"}', content_type="application/json"
            )
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._send(socket, request, None if cursor is None else int(cursor)))
            async for _ in socket:  # answers pings, and sees the reader leave
                pass
            sending.cancel()
        return socket

    async def _send(self, socket: web.WebSocketResponse, request: web.Request, cursor: int | None) -> None:
        try:
            if (refusal := self._refusal(cursor)) is not None:
                await socket.send_bytes(refusal)
                await socket.close()
                return
            if (opening := self._opening(cursor)) is not None:
                await socket.send_bytes(opening)
            await self._send_frames(socket, len(self) if cursor is None else self._after(cursor))
        except ConnectionError:
            return
        if request.transport is not None:
            request.transport.abort()

    def _refusal(self, cursor: int | None) -> bytes | None:
        opening = self.faults.opening
        if opening is not None and libipld.decode_dag_cbor_multi(opening)[0].get("op") == -1:
            return opening
        if cursor is not None and cursor > self.last_seq:
            return error_frame("FutureCursor", "Cursor in the future.")
        return None

    def _opening(self, cursor: int | None) -> bytes | None:
        if cursor and cursor + 1 < self.faults.oldest_seq and not self.faults.hides_outdated:
            return info_frame("OutdatedCursor", "Requested cursor exceeded limit. Possibly missing events")
        return self.faults.opening

    async def _send_frames(self, socket: web.WebSocketResponse, index: int) -> None:
        """Until the connection is to be cut. Waiting for the socket to drain is the backpressure."""
        clock = asyncio.get_running_loop().time
        started, sent = clock(), 0
        async for frame in self._frames_from(index):
            if self.faults.cut_after is not None and sent >= self.faults.cut_after:
                if self.faults.last_words is not None:
                    await socket.send_bytes(self.faults.last_words)
                    await socket.close()
                return
            await socket.send_bytes(frame)
            sent += 1
            self.sent += 1
            if self.pace is not None and (lead := started + sent / self.pace - clock()) > LEAD_SECONDS:
                await asyncio.sleep(lead)
            elif sent % TURN_FRAMES == 0:
                await asyncio.sleep(0)  # a reader faster than we are would keep everyone else waiting

    async def _frames_from(self, index: int) -> AsyncIterator[bytes]:
        while True:
            await self._flowing.wait()
            if self._up_to is not None and index >= self._up_to:
                self.pause()
                continue
            if index == len(self):
                await self._grown.wait()
                continue
            yield self._frame(index)
            index += 1

    def _frame(self, index: int) -> bytes:
        recorded = len(self._recorded)
        return self._recorded[index] if index < recorded else self._appended[index - recorded][1]

    def _seq(self, index: int) -> int:
        recorded = len(self._recorded)
        return self._recorded.seq(index) if index < recorded else self._appended[index - recorded][0]

    def _after(self, cursor: int) -> int:
        return bisect_right(range(len(self)), max(cursor, self.faults.oldest_seq - 1), key=self._seq)


def error_frame(name: str, message: str = "") -> bytes:
    """Spec: event-stream, "Error frames": the connection ends after one."""
    header: bytes = libipld.encode_dag_cbor({"op": -1})
    body: bytes = libipld.encode_dag_cbor({"error": name, "message": message})
    return header + body


def info_frame(name: str, message: str = "") -> bytes:
    """An #info message, which has no seq: OutdatedCursor is the one in use."""
    header: bytes = libipld.encode_dag_cbor({"op": 1, "t": "#info"})
    body: bytes = libipld.encode_dag_cbor({"name": name, "message": message})
    return header + body
