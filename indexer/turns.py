"""Who is served first: what is live, and of a backfill one portion in so many while live ones are at hand."""

import asyncio


class Turns:
    """Shared by the indexers of one process. A lane may have a backfill portion under way when a live one comes."""

    def __init__(self, live_for_each: int) -> None:
        """`live_for_each`: live portions for each backfill portion while both are at hand."""
        self._live_for_each = live_for_each
        self._live_at_hand = 0
        self._live_since = 0
        self._backlogs: set[str] = set()
        self._changed = asyncio.Event()

    def live_comes(self) -> None:
        self._live_at_hand += 1

    def live_goes(self) -> None:
        self._live_at_hand -= 1
        self._live_since += 1
        self._changed.set()

    def live_was_read(self, stream: str, *, in_full: bool) -> None:
        """A read that brought as many entries as were asked for: the stream has more, though none is at hand yet."""
        if in_full:
            self._backlogs.add(stream)
        else:
            self._backlogs.discard(stream)
            self._changed.set()

    async def backfill(self) -> None:
        """Until it is the turn of a backfill portion."""
        while (self._live_at_hand or self._backlogs) and self._live_since < self._live_for_each:
            self._changed.clear()
            await self._changed.wait()
        self._live_since = 0
