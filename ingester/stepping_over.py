"""Past a frame that is too large to be received: the number of it, found by asking for what comes after others."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import ClientError, ClientWebSocketResponse, WebSocketError, WSCloseCode, WSMessage, WSMsgType

from common.errors import BadInput
from ingester.framing import ERROR, INFO, MAX_SEQ, read_message

ANSWER_SECONDS = 10.0
ONE_BY_ONE = 16  # numbers without a jump, so that what is between two that are too large is not jumped over

Connect = Callable[[int], Awaitable[ClientWebSocketResponse]]


class Search:
    """The number lies above the highest cursor after which that frame came, and not above the lowest after which it
    did not. Numbers may have gaps of any size, so after a few the steps double until one is beyond it, and halve from
    there."""

    def __init__(self, position: int) -> None:
        self._before = position
        self._one_by_one_up_to = position + ONE_BY_ONE
        self._past: int | None = None
        self._is_sure = False
        self._step = 1

    @property
    def is_over(self) -> bool:
        return self._past == self._before + 1 or self.cursor > MAX_SEQ

    @property
    def found(self) -> int | None:
        return self._past if self._past == self._before + 1 and self._is_sure else None

    @property
    def cursor(self) -> int:
        """What to ask for next."""
        return self._before + self._step if self._past is None else (self._before + self._past) // 2

    def learn(self, is_past: bool | None) -> None:
        """Whether what comes after `cursor` can be received; None if nothing came.

        Perhaps there is nothing yet, perhaps the host is slow: that is taken for past it, until we are sure.
        """
        if is_past is not False:
            self._past, self._is_sure = self.cursor, is_past is True
        else:
            self._before = self.cursor
            if self._before >= self._one_by_one_up_to:
                self._step *= 2


async def oversized_after(position: int, connect: Connect) -> int | None:
    """The number of the frame that comes after `position` and is too large; None if the host does not say now."""
    search = Search(position)
    try:
        while not search.is_over:
            search.learn(await _is_past(search.cursor, connect))
    except (ClientError, OSError):
        return None
    return search.found


def is_too_large(message: WSMessage) -> bool:
    return isinstance(message.data, WebSocketError) and message.data.code == WSCloseCode.MESSAGE_TOO_BIG


async def _is_past(cursor: int, connect: Connect) -> bool | None:
    """None if nothing comes, or nothing that says it. Raises ClientError and OSError."""
    socket = await connect(cursor)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while (answer := _answer(await socket.receive())) == INFO:
                pass
    except TimeoutError:
        return None
    finally:
        await socket.close()
    return answer if isinstance(answer, bool) else None


def _answer(message: WSMessage) -> bool | str | None:
    """Whether this is past the frame; INFO for a notice, after which more comes; None if it says neither."""
    if is_too_large(message):
        return False
    if message.type is not WSMsgType.BINARY:
        return None
    try:
        read = read_message(message.data)
    except BadInput:
        return True
    if read.kind == INFO:
        return INFO
    if read.kind == ERROR:
        return True if read.body.get("error") == "FutureCursor" else None  # beyond all events, so beyond this one
    return True
