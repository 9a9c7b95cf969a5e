"""The heart of the indexer: batch -> decode -> apply -> ack, for one stream."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from common.daemon import stopped_within
from common.delivery import Delivery
from common.errors import BadInput
from common.events import LabelEvent, RecordEvent, RepoEvent, StreamEvent, decode_event, decode_labels
from common.retry import Backoff
from common.streams import StreamConsumer
from common.syntax import is_tid, tid_at
from indexer import metrics
from indexer.batch import Item, collect
from indexer.database import Database, DeadLetter
from indexer.lexicon_formats import normalised
from indexer.refusals import ERRORS, Verdict, sqlstate, verdict

log = logging.getLogger(__name__)

MAX_BATCH_BYTES = 8 << 20
FUTURE_SECONDS = 300  # how far a rev may be ahead of our clock (spec: sync, commit validation)


class Work(Protocol):
    """What is done with the entries of one kind of stream."""

    def decode(self, delivery: Delivery) -> Item: ...
    async def apply(self, items: Sequence[Item], stream: str) -> None: ...


class EventWork:
    """firehose_live and firehose_backfill: events become rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decode(self, delivery: Delivery) -> Item:
        event = decode_event(delivery.payload or b"")
        if isinstance(event, RecordEvent | RepoEvent) and not is_tid(event.rev):
            raise BadInput("bad_entry", f"rev {event.rev[:40]!r}")
        return Item(delivery, with_normal_time(event))

    async def apply(self, items: Sequence[Item], stream: str) -> None:
        horizon = tid_at(int((time.time() + FUTURE_SECONDS) * 1_000_000))
        applied = await self._database.apply(collect(items, horizon), stream)
        metrics.count_applied(stream, items, applied)


class LabelWork:
    """label_live: labels become rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decode(self, delivery: Delivery) -> Item:
        return Item(delivery, decode_labels(delivery.payload or b""))

    async def apply(self, items: Sequence[Item], stream: str) -> None:
        events = [item.event for item in items if isinstance(item.event, LabelEvent)]
        counts, rows = await self._database.apply_labels(events)
        metrics.count_labels(stream, events, counts, rows)


class Indexer:
    """Service: applies what a stream holds, several batches at a time, until told to stop."""

    def __init__(self, consumer: StreamConsumer, work: Work, database: Database, *, concurrency: int) -> None:
        self._consumer = consumer
        self._work = work
        self._database = database
        self._slots = asyncio.Semaphore(concurrency)

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as batches:
            async for deliveries in self._consumer.batches(stop):
                if deliveries:
                    await self._slots.acquire()
                    batches.create_task(self._process(deliveries, stop))

    async def _process(self, deliveries: list[Delivery], stop: asyncio.Event) -> None:
        """Write, then ack. What could not be written because the daemon stops stays pending."""
        try:
            with metrics.ACTIVE_TASKS.track_inprogress(), metrics.batch_timer(self._consumer.stream):
                items = await self._decode(deliveries, stop)
                for portion in portions(items, MAX_BATCH_BYTES):
                    if await self._index(portion, stop):
                        await self._consumer.ack([item.delivery for item in portion], stop)
        finally:
            self._consumer.release(deliveries)
            self._slots.release()

    async def _decode(self, deliveries: Sequence[Delivery], stop: asyncio.Event) -> list[Item]:
        """Entries that mean nothing are buried here, before any halving could bury them again."""
        items = []
        for delivery in deliveries:
            try:
                items.append(self._work.decode(delivery))
            except BadInput as refusal:
                item = Item(delivery, None)
                if await self._bury(item, refusal.reason, "", refusal.detail, stop):
                    await self._consumer.ack([delivery], stop)
        return items

    async def _index(self, items: Sequence[Item], stop: asyncio.Event) -> bool:
        """True when every item is in Postgres: a batch that it refuses is halved until the culprit is alone."""
        backoff = Backoff()
        while True:
            try:
                await self._work.apply(items, self._consumer.stream)
            except ERRORS as error:
                judgement = verdict(error)
                metrics.count_refusal(judgement)
                if judgement is Verdict.STOP:
                    raise
                if judgement is Verdict.HALVE:
                    return await self._halve(items, error, stop)
                if backoff.failures == 0:
                    log.warning("postgres is away or busy, waiting", extra={"error": str(error)})
            else:
                return True
            if await stopped_within(stop, backoff.next_seconds()):
                return False

    async def _halve(self, items: Sequence[Item], error: BaseException, stop: asyncio.Event) -> bool:
        if len(items) == 1:
            return await self._bury(items[0], "refused_by_postgres", sqlstate(error), str(error), stop)
        middle = len(items) // 2
        return await self._index(items[:middle], stop) and await self._index(items[middle:], stop)

    async def _bury(self, item: Item, reason: str, state: str, error: str, stop: asyncio.Event) -> bool:
        letter = DeadLetter(self._consumer.stream, item, reason, state, error)
        log.warning(
            "buried", extra={"stream": letter.stream, "entry": item.delivery.id, "reason": reason, "error": error}
        )
        backoff = Backoff()
        while True:
            try:
                await self._database.bury(letter)
            except ERRORS as failure:
                if verdict(failure) is not Verdict.WAIT:
                    raise
            else:
                metrics.count_dead_letter(reason)
                return True
            if await stopped_within(stop, backoff.next_seconds()):
                return False


def with_normal_time(event: StreamEvent) -> StreamEvent:
    """The same event; its time is in the one form that can be compared. Raises BadInput("bad_entry")."""
    try:
        time = normalised(event.time)
    except BadInput as bad:
        raise BadInput("bad_entry", f"time {event.time[:40]!r}") from bad
    if time < "0001":
        raise BadInput("bad_entry", f"time {event.time[:40]!r}: Python's calendar begins a year later")
    return event if time == event.time else msgspec.structs.replace(event, time=time)


def portions(items: Sequence[Item], max_bytes: int) -> list[list[Item]]:
    """The same items in order, in runs of at most `max_bytes` of payload (a larger item stands alone)."""
    runs: list[list[Item]] = []
    size = max_bytes
    for item in items:
        size += len(item.delivery.payload or b"")
        if size > max_bytes:
            runs.append([])
            size = len(item.delivery.payload or b"")
        runs[-1].append(item)
    return runs
