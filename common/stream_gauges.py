"""What the streams look like, sampled from Redis: lengths, lag, pending, and how old the oldest work is."""

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
from common.redis_connection import code_of, is_outage

log = logging.getLogger(__name__)

LENGTH = Gauge("sluice_stream_length", "Entries in a stream: work not yet done.", ["stream"])
LAG = Gauge("sluice_stream_group_lag", "Entries not yet delivered to the group.", ["stream", "group"])
PENDING = Gauge("sluice_stream_group_pending", "Entries delivered and not yet acked.", ["stream", "group"])
OLDEST = Gauge(
    "sluice_stream_group_oldest_pending_age_seconds",
    "Age of the oldest entry delivered and not yet acked, since it was added; 0 if there is none.",
    ["stream", "group"],
)
HIGH_WATER = Gauge("sluice_stream_high_water", "Length at which writers wait.", ["stream"])
SAMPLED = Gauge("sluice_stream_sample_timestamp_seconds", "Unix time of the last sample of the streams.")


@dataclass(frozen=True, slots=True)
class StreamSample:
    """One look at a stream. Acked entries are deleted, so lag = length - pending, exactly."""

    length: int
    pending: int
    oldest_pending_age_seconds: float

    @property
    def lag(self) -> int:
        return max(0, self.length - self.pending)


class StreamGauges:
    """Service: samples streams and their groups every few seconds."""

    def __init__(
        self,
        redis: Redis,
        groups: Mapping[str, str | None],
        *,
        interval_seconds: float = 2.0,
        on_sample: Callable[[Mapping[str, StreamSample]], None] = lambda samples: None,
    ) -> None:
        """`groups`: stream name -> its consumer group, or None where this daemon only writes."""
        self._redis = redis
        self._groups = groups
        self._interval_seconds = interval_seconds
        self._on_sample = on_sample

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
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
            return StreamSample(length, 0, 0.0)
        try:
            pending: Any = await self._redis.xpending(stream, group)
        except ResponseError as error:
            if code_of(error) != "NOGROUP":
                raise
            return StreamSample(length, 0, 0.0)
        age = time.time() - int(pending["min"].partition(b"-")[0]) / 1000 if pending["min"] else 0.0
        return StreamSample(length, pending["pending"], max(0.0, age))

    def _publish(self, samples: Mapping[str, StreamSample]) -> None:
        for stream, sample in samples.items():
            LENGTH.labels(stream).set(sample.length)
            if group := self._groups[stream]:
                LAG.labels(stream, group).set(sample.lag)
                PENDING.labels(stream, group).set(sample.pending)
                OLDEST.labels(stream, group).set(sample.oldest_pending_age_seconds)
        SAMPLED.set_to_current_time()
        self._on_sample(samples)

    def _forget(self) -> None:
        """Unknown values are left out rather than shown as they were."""
        for gauge in (LENGTH, LAG, PENDING, OLDEST):
            gauge.clear()


def watched(streams: Sequence[str]) -> dict[str, str | None]:
    """Streams that are only written by this daemon."""
    return dict.fromkeys(streams)
