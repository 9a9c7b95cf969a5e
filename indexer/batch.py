"""What a batch of events asks for, before anything is known of the database: of each key only the newest counts."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from common.delivery import Delivery
from common.errors import BadInput
from common.events import (
    SEQ_BACKFILL,
    AccountEvent,
    CreateEvent,
    DeleteEvent,
    IdentityEvent,
    LabelEvent,
    RecordEvent,
    RepoEvent,
    StreamEvent,
    UpdateEvent,
)
from common.syntax import LAST_TID
from indexer.lexicon_formats import normalised
from indexer.version import Version

Layout = tuple[str, str, int]


class Item(Struct, frozen=True):
    """One event and the entry that carried it; None for an entry that is no event."""

    delivery: Delivery
    event: StreamEvent | LabelEvent | None


@dataclass(slots=True)
class SnapshotProgress:
    """The parts of one repo snapshot (did, rev, records) that a batch holds; `collections` once its end was seen."""

    indexes: list[int] = field(default_factory=list)
    collections: tuple[str, ...] | None = None


@dataclass(slots=True)
class Batch:
    """`times` holds the times of the live events of a DID, `identities` the newest that calls for a look at its handle.

    `newest` has one event for each key; `superseded` what it wins over. `commits` is the newest (rev, CID) seen.
    `accounts` has the newest event of an account, `away` the accounts that were not active at some time.
    `refused` counts record events from the future. `versions` is what has been worked out ahead.
    """

    newest: dict[str, Item] = field(default_factory=dict)
    superseded: list[Item] = field(default_factory=list)
    commits: dict[str, tuple[str, str]] = field(default_factory=dict)
    times: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    backfilled: dict[str, str] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, AccountEvent] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    snapshots: dict[Layout, SnapshotProgress] = field(default_factory=dict)
    refused: int = 0
    versions: dict[str, Version | BadInput] = field(default_factory=dict)


def collect(items: Iterable[Item], horizon: str = LAST_TID) -> Batch:
    """Order-free: the result depends on the set of events only (docs/invariants.md 7).

    A rev above `horizon` is refused: it would win over every honest one for ever. The times of the events must be
    datetimes (see worker.py).
    """
    batch = Batch()
    for item in items:
        event = item.event
        if isinstance(event, RecordEvent | RepoEvent) and not event.rev <= horizon:
            batch.refused += isinstance(event, RecordEvent)
            continue
        match event:
            case CreateEvent() | UpdateEvent() | DeleteEvent():
                _add_record_event(batch, item, event)
                _add_commit(batch, event)
            case RepoEvent():
                _add_commit(batch, event)
            case IdentityEvent():
                batch.identities[event.did] = max(normalised(event.time), batch.identities.get(event.did, ""))
            case AccountEvent():
                _add_account_event(batch, event)
    _date_backfilled(batch)
    return batch


def _date_backfilled(batch: Batch) -> None:
    """A version that a backfill and a live event of one batch bring has the live event's time (dating.py)."""
    for item in batch.superseded:
        event, newest = item.event, batch.newest[item.event.uri]  # type: ignore[union-attr]  # nothing else is there
        backfilled = newest.event
        if (
            isinstance(event, CreateEvent | UpdateEvent)
            and isinstance(backfilled, CreateEvent | UpdateEvent)
            and (event.cid == backfilled.cid and event.seq != SEQ_BACKFILL == backfilled.seq)
        ):
            dated = msgspec.structs.replace(backfilled, time=event.time, seq=event.seq)
            batch.newest[event.uri] = Item(newest.delivery, dated)


def _add_record_event(batch: Batch, item: Item, event: RecordEvent) -> None:
    known = batch.newest.get(event.uri)
    if known is None:
        batch.newest[event.uri] = item
    elif _version(known) < _version(item):
        batch.newest[event.uri] = item
        batch.superseded.append(known)
    else:
        batch.superseded.append(item)


def _version(item: Item) -> tuple[str, int]:
    """Newest rev first; of the same version, the one that came live knows its own time best."""
    event = item.event
    return (event.rev, event.seq) if isinstance(event, RecordEvent) else ("", 0)


def _add_commit(batch: Batch, event: RecordEvent | RepoEvent) -> None:
    batch.commits[event.did] = max((event.rev, event.commit), batch.commits.get(event.did, ("", "")))
    if event.seq == SEQ_BACKFILL:
        time = normalised(event.time)
        batch.backfilled[event.did] = min(time, batch.backfilled.get(event.did, time))
    else:
        batch.times[event.did].append(normalised(event.time))
    if event.snapshot:
        layout = (event.did, event.rev, event.snapshot.records)
        progress = batch.snapshots.setdefault(layout, SnapshotProgress())
        progress.indexes.append(event.snapshot.index)
        if isinstance(event, RepoEvent):
            progress.collections = event.snapshot.collections or ()


def _add_account_event(batch: Batch, event: AccountEvent) -> None:
    if not event.active:
        batch.away.add(event.did)
    known = batch.accounts.get(event.did)
    if known is None or (known.time, known.seq) < (event.time, event.seq):
        batch.accounts[event.did] = event


def ranges(indexes: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of consecutive numbers as half-open (first, past the last)."""
    runs: list[tuple[int, int]] = []
    for index in sorted(set(indexes)):
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs
