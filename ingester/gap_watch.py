"""Sees what a host's stream skips, and has it in the ledger before the cursor moves past it (spec: event-stream)."""

import logging
from collections.abc import Awaitable, Callable

from common.redis_connection import outlast_unless_cancelled
from ingester.framing import FrameResult
from ingester.gaps import OPEN, Gap, GapLedger

_WHY = {
    "outdated_cursor": "the host no longer had the events after our cursor",
    "seq_jump": "the first event of a connection was far beyond our cursor, and the host said nothing of it",
    "future_cursor": "the host did not know our cursor: its numbering began again, or it is another host",
    "oversized_frame": "a frame was too large to be received: nothing tells which repo it was about",
}
log = logging.getLogger(__name__)
Deliver = Callable[[FrameResult], Awaitable[None]]


class GapWatch:
    """Of one host, over all its connections."""

    def __init__(self, ledger: GapLedger, source: str, host: str, *, seq_jump: int) -> None:
        """`seq_jump`: how far the first event may be beyond the cursor, for a host may skip numbers."""
        self._ledger = ledger
        self._source = source
        self._host = host
        self._seq_jump = seq_jump
        self._position = 0
        self._is_outdated = False

    def watching(self, position: int, deliver: Deliver) -> Deliver:
        """The same `deliver` for a new connection at `position`, which looks at the first event before it goes on."""
        self._position, self._is_outdated = position, False
        is_first = True

        async def watched(result: FrameResult) -> None:
            nonlocal is_first
            if is_first:
                await outlast_unless_cancelled(lambda: self._settle(result.seq))
                is_first = False
            await deliver(result)

        return watched

    def outdated(self) -> None:
        """The host said so; the next event is the oldest that it has."""
        self._is_outdated = self._position > 0

    async def future(self) -> None:
        """The host refused our cursor. Where its stream goes on is not known before somebody has set another one."""
        await outlast_unless_cancelled(lambda: self._record("future_cursor", None))

    async def stepping_over(self, position: int) -> None:
        """The frame after `position` is given up. It may have been more than one."""
        self._position = position
        await outlast_unless_cancelled(lambda: self._record("oversized_frame", None))

    async def _settle(self, seq: int) -> None:
        for each in await self._ledger.all():
            if (each.source, each.host, each.state, each.before) == (self._source, self._host, OPEN, None):
                await self._ledger.change(each, before=seq)
        if self._is_outdated:
            await self._record("outdated_cursor", seq)
        elif self._position and seq - self._position > self._seq_jump:
            await self._record("seq_jump", seq)

    async def _record(self, kind: str, before: int | None) -> None:
        found = Gap(
            source=self._source, host=self._host, kind=kind, after=self._position, before=before, why=_WHY[kind]
        )
        if await self._ledger.record(found):
            fields = {"source": self._source, "host": self._host, "kind": kind, "after": found.after, "before": before}
            log.error("gap: events were missed; `sluice gaps` lists what becomes of it", extra=fields)
