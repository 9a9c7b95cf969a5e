"""A batch and its cursor, to the stream: as they are, or each frame judged by its repo's chain."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from common.chain import Frame, no_step
from common.events import encode_event
from common.repo_states import FrameWriter
from common.streams import StreamWriter
from ingester.batching import Batch
from ingester.chain import Told, judged, told
from ingester.framing import FrameResult
from ingester.metrics import count_judged


class BatchWriter(Protocol):
    def told(self, result: FrameResult, units: int) -> Told: ...

    async def write(
        self, batch: Batch, cursor_key: str, expected: str, stop: asyncio.Event
    ) -> Mapping[str, int] | None:
        """Units that turned out to be of no use, by reason; None if told to stop first. Raises Fenced."""


class PlainWriter:
    """Everything is news."""

    def __init__(self, writer: StreamWriter) -> None:
        self._writer = writer

    def told(self, result: FrameResult, units: int) -> Told:
        payloads = [encode_event(event) for event in result.events]
        return Told(Frame(no_step(len(payloads)), payloads), units, result.seq, result.time)

    async def write(
        self, batch: Batch, cursor_key: str, expected: str, stop: asyncio.Event
    ) -> Mapping[str, int] | None:
        payloads = [payload for told in batch.frames for payload in told.frame.payloads]
        written = await self._writer.append_with_cursor(payloads, cursor_key, expected, str(batch.seq), stop)
        return {} if written else None


class ChainedWriter:
    """What another host has told already is dropped, and who is out of step is queued for a backfill."""

    def __init__(self, writer: FrameWriter, host: str) -> None:
        self._writer = writer
        self._host = host

    def told(self, result: FrameResult, units: int) -> Told:
        return told(result, units, self._host)

    async def write(
        self, batch: Batch, cursor_key: str, expected: str, stop: asyncio.Event
    ) -> Mapping[str, int] | None:
        frames = [told.frame for told in batch.frames]
        verdicts = await self._writer.append(frames, cursor_key, expected, str(batch.seq), stop)
        if verdicts is None:
            return None
        result = judged(batch.frames, verdicts)
        count_judged(result.results, result.queued)
        return result.dropped
