"""The frames of one connection, read and verified while those before them still wait: the order stays theirs."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from common.errors import BadInput
from common.events import IdentityEvent
from ingester.frame_reader import KeyAnswer, Outcome, Want
from ingester.framing import FrameResult, Unreadable
from ingester.signing_keys import SigningKeys

MOST_FRAMES, MOST_BYTES = 512, 8 << 20
TURN_FRAMES = 16  # read here before others get their turn: each takes up to a third of a millisecond


class Reader(Protocol):
    """Reads frames, here and now or elsewhere and later."""

    def read(self, frame: bytes, answer: KeyAnswer | None = None) -> "Outcome | asyncio.Future[Outcome]": ...

    def forget(self, did: str) -> None: ...


class PlainReader:
    """For frames that need no key."""

    def __init__(self, read_frame: Callable[[bytes], FrameResult]) -> None:
        self._read_frame = read_frame

    def read(self, frame: bytes, answer: KeyAnswer | None = None) -> Outcome:
        try:
            return self._read_frame(frame)
        except BadInput as bad:
            return bad

    def forget(self, did: str) -> None:
        pass


class _Ahead:
    __slots__ = ("frame", "outcome")

    def __init__(self, frame: bytes, outcome: "Outcome | asyncio.Future[Outcome]") -> None:
        self.frame = frame
        self.outcome = outcome


class ReadAhead:
    """An async iterator: the outcomes in the order of the frames. It ends with `close`, when all have been had.

    Keys that nobody has yet are asked for at once, many at a time. A newer key is only asked for when the frame's turn
    has come: by then every event before it has been heard, perhaps that there is one.
    """

    def __init__(self, reader: Reader, keys: SigningKeys | None, tasks: asyncio.TaskGroup) -> None:
        self._reader = reader
        self._keys = keys
        self._tasks = tasks
        self._ahead: deque[_Ahead] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def is_empty(self) -> bool:
        return not self._ahead

    async def put(self, frame: bytes) -> None:
        """Waits while there are too many. May be cancelled: the frame is then not there."""
        while self._ahead and (len(self._ahead) >= MOST_FRAMES or self._bytes + len(frame) > MOST_BYTES):
            self._changed.clear()
            await self._changed.wait()
        ahead = _Ahead(frame, self._reader.read(frame))
        self._ahead.append(ahead)
        self._bytes += len(frame)
        self._changed.set()
        if isinstance(ahead.outcome, asyncio.Future):
            ahead.outcome.add_done_callback(lambda outcome: self._look_up_early(ahead, outcome))
            return
        self._find_key(ahead, ahead.outcome)
        if len(self._ahead) % TURN_FRAMES == 0:
            await asyncio.sleep(0)

    def close(self) -> None:
        """No more frames come."""
        self._closed = True
        self._changed.set()

    def abandon(self) -> None:
        """Nobody wants the rest."""
        for ahead in self._ahead:
            if isinstance(ahead.outcome, asyncio.Future):
                ahead.outcome.cancel()

    def __aiter__(self) -> "ReadAhead":
        return self

    async def __anext__(self) -> FrameResult | Unreadable:
        while not self._ahead:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        found = await self._settled(self._ahead[0])
        frame = self._ahead.popleft().frame
        self._bytes -= len(frame)
        self._changed.set()
        if isinstance(found, BadInput):
            return Unreadable(frame, found.reason)
        if self._keys is not None:
            await self._heed(found, self._keys)
        return found

    async def _settled(self, ahead: _Ahead) -> FrameResult | BadInput:
        found = await self._outcome(ahead)
        while isinstance(found, Want):
            found = await self._with_key(ahead.frame, found)
        return found

    async def _outcome(self, ahead: _Ahead) -> Outcome:
        while isinstance(outcome := ahead.outcome, asyncio.Future):
            found = await outcome
            if ahead.outcome is outcome:  # no key was asked for meanwhile
                return found
        return outcome

    def _look_up_early(self, ahead: _Ahead, outcome: "asyncio.Future[Outcome]") -> None:
        if not outcome.cancelled():
            self._find_key(ahead, outcome.result())

    def _find_key(self, ahead: _Ahead, outcome: Outcome) -> None:
        if isinstance(outcome, Want) and outcome.tried is None:
            ahead.outcome = self._tasks.create_task(self._with_key(ahead.frame, outcome))

    async def _with_key(self, frame: bytes, want: Want) -> Outcome:
        if self._keys is None:
            raise TypeError("a reader that wants keys, and nobody to ask")
        outcome = self._reader.read(frame, await self._keys.answer(want.did, want.tried))
        return await outcome if isinstance(outcome, asyncio.Future) else outcome

    async def _heed(self, result: FrameResult, keys: SigningKeys) -> None:
        for event in result.events:
            if isinstance(event, IdentityEvent):
                self._reader.forget(event.did)
                await keys.forget(event.did)
