"""What is done with the entries of one kind of stream: decoded, cut into portions, prepared, applied."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from common.delivery import Delivery
from common.errors import BadInput
from common.events import (
    AccountEvent,
    IdentityEvent,
    LabelEvent,
    RecordEvent,
    RepoEvent,
    StreamEvent,
    decode_event,
    decode_labels,
)
from common.syntax import FUTURE_SECONDS, is_did, is_nsid, is_tid, tid_at, utc_text
from indexer import labels, metrics
from indexer.batch import Batch, Item, collect
from indexer.database import Database
from indexer.dating import FIRST_TIME
from indexer.dead_letters import DeadLetter
from indexer.last_writer import prepare
from indexer.lexicon_formats import is_record_key, normalised

MAX_PORTION_BYTES = 8 << 20
PREPARED_AT_ONCE = 20
# whose subjects are told that it came and, later, that it went
_BIDS_FAREWELL = "app.bsky.graph.verification"


@dataclass(frozen=True, slots=True)
class Portion:
    """Entries that go into one transaction; `batch` is what they ask for, if that has been worked out."""

    items: Sequence[Item]
    batch: Batch | None = None


class Work(Protocol):
    def decode(self, delivery: Delivery) -> Item:
        """Raises BadInput("bad_entry")."""
        ...

    def keeps_order_of(self, item: Item) -> str:
        """What the item is about: items about the same are applied in their order."""
        ...

    def portions(self, items: Sequence[Item]) -> Iterable[Sequence[Item]]: ...
    async def prepare(self, items: Sequence[Item]) -> Portion: ...
    async def apply(self, portion: Portion, stream: str) -> None: ...
    async def settle(self, portion: Portion, stream: str) -> None:
        """What is left to do once a portion has been applied, and before it is acked."""
        ...


class EventWork:
    """firehose_live and firehose_backfill: events become rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decode(self, delivery: Delivery) -> Item:
        event = decode_event(delivery.payload or b"")
        check_names(event)
        return Item(delivery, with_normal_time(event))

    def keeps_order_of(self, item: Item) -> str:
        return item.event.did if isinstance(item.event, StreamEvent) else ""

    def portions(self, items: Sequence[Item]) -> Iterable[Sequence[Item]]:
        """Bounded in bytes, and cut before the second version of a record that tells also when it goes."""
        return cut(items, MAX_PORTION_BYTES)

    async def prepare(self, items: Sequence[Item]) -> Portion:
        """Gives way to the loop now and then: meanwhile what the lanes have in hand is being applied."""
        batch = collect(items, tid_at(int((time.time() + FUTURE_SECONDS) * 1_000_000)))
        uris = sorted(batch.newest)
        for start in range(0, len(uris), PREPARED_AT_ONCE):
            prepare(batch, uris[start : start + PREPARED_AT_ONCE])
            await asyncio.sleep(0)
        return Portion(items, batch)

    async def apply(self, portion: Portion, stream: str) -> None:
        batch = portion.batch or collect(portion.items)
        applied = await self._database.apply(batch, stream)
        batch.versions.clear()  # they are rows now, and weigh more than all the rest that waits to be settled
        metrics.count_applied(stream, portion.items, applied)

    async def settle(self, portion: Portion, stream: str) -> None:
        metrics.DB_WRITES.inc(await self._database.settle(portion.batch or collect(portion.items)))


class LabelWork:
    """label_live: labels become rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decode(self, delivery: Delivery) -> Item:
        return Item(delivery, decode_labels(delivery.payload or b""))

    def keeps_order_of(self, item: Item) -> str:
        return ""  # one batch can tell of any number of subjects

    def portions(self, items: Sequence[Item]) -> Iterable[Sequence[Item]]:
        return cut(items, MAX_PORTION_BYTES)

    async def prepare(self, items: Sequence[Item]) -> Portion:
        return Portion(items)

    async def apply(self, portion: Portion, stream: str) -> None:
        """A label that cannot be stored costs none of its siblings; its entry is kept as a dead letter as well."""
        told: list[LabelEvent] = []
        kept: list[LabelEvent] = []
        letters: list[DeadLetter] = []
        for item in portion.items:
            if isinstance(item.event, LabelEvent):
                event, refusals = labels.sorted_out(item.event)
                told.append(item.event)
                kept.append(event)
                if refusals:
                    why = f"{len(refusals)} of {len(item.event.labels)} labels: {refusals[0].detail}"
                    letters.append(DeadLetter(stream, item, refusals[0].reason, "", why))
        metrics.count_labels(stream, told, await self._database.apply_labels(kept, letters))
        for letter in letters:
            metrics.count_dead_letter(letter.reason)

    async def settle(self, portion: Portion, stream: str) -> None:
        """Labels concern nobody else."""


def check_names(event: StreamEvent) -> None:
    """What an event is about must be what its URI says, and what can be buried. Raises BadInput("bad_entry")."""
    if not is_did(event.did):
        raise BadInput("bad_entry", f"did {event.did[:40]!r}")
    if isinstance(event, RecordEvent | RepoEvent) and not is_tid(event.rev):
        raise BadInput("bad_entry", f"rev {event.rev[:40]!r}")
    if isinstance(event, RecordEvent) and not (is_nsid(event.collection) and is_record_key(event.rkey)):
        raise BadInput("bad_entry", f"path {event.collection[:40]!r}/{event.rkey[:40]!r}")


def with_normal_time(event: StreamEvent) -> StreamEvent:
    """The same event, its time in the one form that can be compared as text. Raises BadInput("bad_entry").

    Of accounts and identities the newest event counts: one from the future would make all others look old.
    """
    try:
        time = normalised(event.time)
    except BadInput as bad:
        raise BadInput("bad_entry", f"time {event.time[:40]!r}") from bad
    if time < FIRST_TIME:
        raise BadInput("bad_entry", f"time {event.time[:40]!r}: our calendar begins with the year 1")
    if isinstance(event, AccountEvent | IdentityEvent):
        time = min(time, utc_text(datetime.now(UTC) + timedelta(seconds=FUTURE_SECONDS)))
    return event if time == event.time else msgspec.structs.replace(event, time=time)


def cut(items: Sequence[Item], max_bytes: int) -> list[list[Item]]:
    """The same items in order, in runs of at most `max_bytes` of payload (a larger item stands alone)."""
    runs: list[list[Item]] = []
    seen: set[str] = set()
    size = 0
    for item in items:
        event, payload = item.event, len(item.delivery.payload or b"")
        uri = event.uri if isinstance(event, RecordEvent) and event.collection == _BIDS_FAREWELL else ""
        size += payload
        if not runs or size > max_bytes or uri in seen:
            runs.append([])
            seen, size = set(), payload
        runs[-1].append(item)
        if uri:
            seen.add(uri)
    return runs
