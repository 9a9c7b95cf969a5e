"""Jobs for the backfillers: queued page by page with where we are, so that an interrupted command goes on there."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from backfiller.ledger import Entry, Ledger
from backfiller.outcomes import DONE
from backfiller.settings import Settings
from common.backpressure import Room
from common.errors import TryLater
from common.events import JOB_FIELD, Priority, RepoJob, encode_event
from common.retry import Backoff
from common.streams import StreamWriter
from sluice.repo_sources import END, Listed, Page, RepoSource

QUEUE_HIGH_WATER = 100_000
TRIES = 6
LOOK_SECONDS = 0.2


@dataclass
class Queued:
    """What a command has queued so far, and what it could not use."""

    jobs: int = 0
    unusable: int = 0


class BackfillQueue:
    """Writes jobs of one priority. It waits while the queue is full."""

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        priority: Priority,
        *,
        reason: str,
        force: bool,
        on_full: Callable[[str], None] = lambda stream: None,
    ) -> None:
        """With `force` a repo is fetched although it is done at the rev that its list names.

        `on_full` hears once that it begins to wait.
        """
        self._redis = redis
        self._priority = priority
        self._reason = reason
        self._force = force
        self.stream = settings.high_stream if priority == "high" else settings.backfill_stream
        self._on_full: Callable[[str], None] | None = on_full
        room = Room(
            redis,
            self.stream,
            QUEUE_HIGH_WATER,
            memory_share=settings.memory_share,
            backfills=settings.backfill_stream,
            on_pressure=self._tell_once,
        )
        self._writer = StreamWriter(redis, self.stream, JOB_FIELD, room)
        self._stop = asyncio.Event()

    def _tell_once(self, stream: str, _active: bool, _seconds: float) -> None:
        if self._on_full:
            self._on_full(stream)
        self._on_full = None

    async def put(self, rows: Iterable[Listed]) -> None:
        await self._writer.append(self._payloads(rows), self._stop)

    async def put_all(self, source: RepoSource, queued: Queued, on_page: Callable[[], None]) -> None:
        """From where the last command with this source was interrupted. Raises TryLater, BadInput, GiveUp, Fenced."""
        key = self.cursor_key(source)
        cursor = await self.cursor(source)
        while cursor != END:
            page = await _patiently(source, cursor)
            await self._writer.append_with_cursor(self._payloads(page.rows), key, cursor, page.cursor, self._stop)
            cursor = page.cursor
            queued.jobs += len(page.rows)
            queued.unusable += page.unusable
            on_page()
        await self._redis.delete(key)

    def cursor_key(self, source: RepoSource) -> str:
        return f"{self.stream}:asked:{source.name}"

    async def cursor(self, source: RepoSource) -> str:
        stored = await self._redis.get(self.cursor_key(source))
        return stored.decode() if isinstance(stored, bytes) else ""

    async def begin_again(self, source: RepoSource) -> None:
        await self._redis.delete(self.cursor_key(source))

    def _payloads(self, rows: Iterable[Listed]) -> list[bytes]:
        return [
            encode_event(
                RepoJob(did=row.did, rev="" if self._force else row.rev, reason=self._reason, priority=self._priority)
            )
            for row in rows
        ]


async def _patiently(source: RepoSource, cursor: str) -> Page:
    backoff = Backoff(0.5, 15.0)
    while True:
        try:
            return await source.page(cursor)
        except TryLater as error:
            if backoff.failures >= TRIES:
                raise
            await asyncio.sleep(max(backoff.next_seconds(), error.seconds or 0.0))


class Outcomes:
    """What becomes of these repos from now on."""

    def __init__(self, ledger: Ledger, dids: Sequence[str]) -> None:
        self._ledger = ledger
        self._dids = list(dict.fromkeys(dids))
        self._before: dict[str, Entry | None] = {}
        self.found: dict[str, Entry] = {}

    @property
    def total(self) -> int:
        return len(self._dids)

    @property
    def all_done(self) -> bool:
        return all(entry.outcome == DONE for entry in self.found.values())

    async def remember(self) -> None:
        """To be called before the jobs are queued."""
        self._before = dict(zip(self._dids, await self._ledger.known_of(self._dids), strict=True))

    async def wait(self, on_look: Callable[[], None]) -> None:
        while waiting := [did for did in self._dids if did not in self.found]:
            for did, entry in zip(waiting, await self._ledger.known_of(waiting), strict=True):
                if entry is not None and entry != self._before[did]:
                    self.found[did] = entry
            on_look()
            if len(self.found) < len(self._dids):
                await asyncio.sleep(LOOK_SECONDS)
