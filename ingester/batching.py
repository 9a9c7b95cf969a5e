"""What has been read and not yet written: one batch fills while another is being written, and no more."""

import asyncio
from dataclasses import dataclass, field

from ingester.chain import Told


@dataclass(frozen=True)
class BatchLimits:
    """A batch is due when it has `entries` entries or `size_bytes`, or `age_seconds` after it was begun."""

    entries: int
    size_bytes: int
    age_seconds: float


@dataclass(slots=True)
class Batch:
    """Frames for one stream. Written, they take the cursor to `seq`; they may be without entries."""

    frames: list[Told] = field(default_factory=list)
    entries: int = 0
    units: int = 0
    size_bytes: int = 0
    seq: int = 0
    time: str = ""


class Buffer:
    """Between one reader and one writer. A full batch that is not taken keeps the reader waiting."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._batch = Batch()
        self._begun, self._due, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room.set()
        self._closed = False

    @property
    def is_full(self) -> bool:
        return not self._room.is_set()

    async def room(self) -> None:
        await self._room.wait()

    def add(self, told: Told) -> None:
        """To be called only when there is `room`, so that a reader which is cancelled waiting has added nothing.

        A frame without entries counts as one: it may be work all the same.
        """
        batch, payloads = self._batch, told.frame.payloads
        batch.frames.append(told)
        batch.entries += max(1, len(payloads))
        batch.units += told.units
        batch.size_bytes += sum(map(len, payloads))
        batch.seq, batch.time = told.seq, told.time or batch.time
        self._begun.set()
        if batch.entries >= self._limits.entries or batch.size_bytes >= self._limits.size_bytes:
            self._due.set()
            self._room.clear()

    async def take(self) -> Batch | None:
        """The next batch once it is due; None when the buffer is closed and empty."""
        await self._begun.wait()
        if not self._due.is_set():
            await self._wait_until_due()
        batch, self._batch = self._batch, Batch()
        if not self._closed:
            self._begun.clear()
            self._due.clear()
        self._room.set()
        return batch if batch.seq else None

    def close(self) -> None:
        """Nothing more comes: what there is, is due."""
        self._closed = True
        self._begun.set()
        self._due.set()

    async def _wait_until_due(self) -> None:
        try:
            async with asyncio.timeout(self._limits.age_seconds):
                await self._due.wait()
        except TimeoutError:
            return
