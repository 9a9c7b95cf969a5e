"""What the streams and Redis look like, sampled: lengths, lag, pending, how old the oldest work is, memory."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from common.daemon import stopped_within
from common.dependencies import answering
from common.redis_connection import code_of, is_outage
from common.standing import BACKFILLS, standing_bytes

log = logging.getLogger(__name__)

LENGTH = Gauge("sluice_stream_length", "Entries in a stream: work not yet done.", ["stream"])
LAG = Gauge("sluice_stream_group_lag", "Entries not yet delivered to the group.", ["stream", "group"])
PENDING = Gauge("sluice_stream_group_pending", "Entries delivered and not yet acked.", ["stream", "group"])
OLDEST = Gauge(
    "sluice_stream_group_oldest_pending_age_seconds",
    "Age of the oldest entry delivered and not yet acked, since it was added; 0 if there is none.",
    ["stream", "group"],
)
LAG_SECONDS = Gauge(
    "sluice_stream_group_lag_seconds",
    "Age of the oldest entry not yet delivered to the group; 0 if there is none.",
    ["stream", "group"],
)
HIGH_WATER = Gauge("sluice_stream_high_water", "Length at which writers wait.", ["stream"])
MEMORY = Gauge(
    "sluice_redis_memory_bytes",
    "Of Redis: used, what of that never drains (standing, at least), and maxmemory where it has one (max).",
    ["kind"],
)


@dataclass(frozen=True, slots=True)
class StreamSample:
    """One look at a stream. Times are seconds; `lag_seconds` is None if nothing waits to be delivered.

    Redis' own count of the lag is wrong after a trim and absent after a deletion. Acked entries are deleted here, so
    what is neither delivered nor acked is what length and pending leave, and there is some if an entry stands there.
    """

    length: int
    pending: int = 0
    oldest_pending_age_seconds: float = 0.0
    lag_seconds: float | None = None

    @property
    def lag(self) -> int:
        return 0 if self.lag_seconds is None else max(1, self.length - self.pending)


class StreamGauges:
    """Service: samples streams and their groups every few seconds."""

    def __init__(
        self,
        redis: Redis,
        groups: Mapping[str, str | None],
        *,
        interval_seconds: float = 2.0,
        backfills: str = BACKFILLS,
        on_sample: Callable[[Mapping[str, StreamSample]], None] = lambda samples: None,
    ) -> None:
        """`groups`: stream name -> its consumer group, or None where this daemon only writes.

        `backfills` names the ledger of the backfillers, as for a Room.
        """
        self._redis = redis
        self._groups = groups
        self._interval_seconds = interval_seconds
        self._backfills = backfills
        self._on_sample = on_sample

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                with answering("redis"):
                    await self._sample_memory()
                self._publish({stream: await self._sample(stream) for stream in self._groups})
            except (RedisError, OSError) as error:
                if not is_outage(error):
                    raise
                self._forget()
            await stopped_within(stop, self._interval_seconds)

    async def _sample(self, stream: str) -> StreamSample:
        length = await self._redis.xlen(stream)
        group = self._groups[stream]
        if group is None:
            return StreamSample(length)
        try:
            pending: Any = await self._redis.xpending(stream, group)
        except ResponseError as error:
            if code_of(error) != "NOGROUP":
                raise
            return StreamSample(length, lag_seconds=await self._lag_seconds(stream, b"0-0"))
        age = _age_seconds(pending["min"]) if pending["min"] else 0.0
        return StreamSample(
            length, pending["pending"], age, await self._lag_seconds(stream, await self._read_to(stream))
        )

    async def _read_to(self, stream: str) -> bytes:
        """The id up to which the group has been given entries."""
        groups: Any = await self._redis.xinfo_groups(stream)
        wanted = str(self._groups[stream]).encode()
        return next((group["last-delivered-id"] for group in groups if group["name"] == wanted), b"0-0")

    async def _lag_seconds(self, stream: str, after: bytes) -> float | None:
        found: Any = await self._redis.xrange(stream, min=b"(" + after, count=1)
        return _age_seconds(found[0][0]) if found else None

    async def _sample_memory(self) -> None:
        memory = await self._redis.info("memory")
        MEMORY.labels("used").set(memory["used_memory"])
        MEMORY.labels("standing").set(await standing_bytes(self._redis, self._backfills))
        if limit := memory.get("maxmemory"):
            MEMORY.labels("max").set(limit)

    def _publish(self, samples: Mapping[str, StreamSample]) -> None:
        for stream, sample in samples.items():
            LENGTH.labels(stream).set(sample.length)
            if group := self._groups[stream]:
                LAG.labels(stream, group).set(sample.lag)
                LAG_SECONDS.labels(stream, group).set(sample.lag_seconds or 0.0)
                PENDING.labels(stream, group).set(sample.pending)
                OLDEST.labels(stream, group).set(sample.oldest_pending_age_seconds)
        self._on_sample(samples)

    def _forget(self) -> None:
        """Unknown values are left out rather than shown as they were."""
        for gauge in (LENGTH, LAG, LAG_SECONDS, PENDING, OLDEST, MEMORY):
            gauge.clear()


def _age_seconds(entry_id: bytes) -> float:
    """Since the entry was added: its id begins with the time, in milliseconds."""
    return max(0.0, time.time() - int(entry_id.partition(b"-")[0]) / 1000)


def watched(streams: Sequence[str]) -> dict[str, str | None]:
    """Streams that are only written by this daemon."""
    return dict.fromkeys(streams)
