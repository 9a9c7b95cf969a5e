"""What a batch changes, given what is known of its keys: decided here, without touching the database."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import orjson

from common.errors import BadInput
from common.events import SEQ_BACKFILL, CreateEvent, RecordEvent, UpdateEvent
from common.syntax import collection_of, tid_microseconds, utc_text
from indexer.batch import Batch, Item
from indexer.dating import NOT_THERE, Live
from indexer.lexicon_formats import normalised
from indexer.lives import REMEMBERED, Life, end, life
from indexer.records import HANDLERS
from indexer.tables import Counter as TableCounter
from indexer.tables import Row, Table
from indexer.version import Announcement, RecordRow, Version, version_of


@dataclass(frozen=True, slots=True)
class Known:
    """The registers of a batch's keys: live records, deletions, and the rev up to which a repo is reflected.

    `removed`: repos that went with their accounts.
    """

    live: Mapping[str, Live]
    dead: Mapping[str, str]  # uri -> rev
    floors: Mapping[str, str]  # did -> rev
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The key holds nothing (that can be indexed) at this rev."""

    uri: str
    did: str
    rev: str


@dataclass(slots=True)
class Plan:
    """`records` are new, `rewritten` are there already. `removed`: URIs whose rows leave each table. `touched`:
    aggregates that exist even if they count nothing. `ghosts`: rows that were never seen alive, for tables that keep
    deleted rows with a mark, by their keys there. `ending`: records that are there and about to go, whose lives others
    have to know of; `lives` is what else has come to light of such. `dated`: records of which it has become known since
    when they are there. `ungated`: posts whose gates may go with a snapshot. `unplaced`: posts that are to be settled,
    and the roots of their threads.

    `outcomes` accounts for every record event of the batch, one each.
    """

    records: list[RecordRow] = field(default_factory=list)
    rewritten: list[RecordRow] = field(default_factory=list)
    rows: dict[Table, list[Row]] = field(default_factory=lambda: defaultdict(list))
    notifications: dict[str, Sequence[Row]] = field(default_factory=dict)
    announcements: list[Announcement] = field(default_factory=list)
    unplaced: dict[str, str | None] = field(default_factory=dict)
    removed: dict[Table, list[str]] = field(default_factory=lambda: defaultdict(list))
    deleted: list[str] = field(default_factory=list)
    lifted: list[tuple[str, str]] = field(default_factory=list)
    tombstones: list[Tombstone] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)
    touched: set[tuple[TableCounter, str]] = field(default_factory=set)
    ghosts: dict[tuple[str, ...], Row] = field(default_factory=dict)
    ungated: set[str] = field(default_factory=set)
    ending: list[str] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    dated: list[str] = field(default_factory=list)
    poison: list[tuple[Item, str]] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)


def prepare(batch: Batch, uris: Sequence[str]) -> None:
    """Work out ahead what does not depend on the database."""
    for uri in uris:
        event = batch.newest[uri].event
        if isinstance(event, CreateEvent | UpdateEvent) and event.collection in HANDLERS:
            batch.versions[uri] = version_of(event, uri)


def plan(batch: Batch, known: Known, collections: Container[str] = HANDLERS) -> Plan:
    """Last writer wins: of each key the newest rev, whatever the order in which versions come.

    `collections`: the record types that the AppView knows.
    """
    result = Plan()
    if batch.refused:
        result.outcomes["future_rev"] = batch.refused
    for uri, item in sorted(batch.newest.items()):
        if item.event.collection in collections:  # type: ignore[union-attr]  # collect() puts nothing else there
            _plan_one(result, known, batch, uri)
        else:
            result.outcomes["unknown_collection"] += 1
    for item in batch.superseded:
        _pass(result, known, item, batch)
        _touch(result, known, item)
        result.outcomes["superseded"] += 1
    return result


def _plan_one(result: Plan, known: Known, batch: Batch, uri: str) -> None:
    item = batch.newest[uri]
    event = item.event
    assert isinstance(event, RecordEvent)  # noqa: S101 - for the type checker: collect() puts nothing else there
    live = known.live.get(uri, NOT_THERE)
    newest = max(live.rev, known.dead.get(uri, ""), known.floors.get(event.did, ""))
    is_same = isinstance(event, CreateEvent | UpdateEvent) and event.cid == live.cid
    if isinstance(event, CreateEvent | UpdateEvent) and is_same and live.is_dated_by(event):
        _plan_dating(result, event, live)
        result.outcomes["written"] += 1
    elif event.rev <= newest:
        _pass(result, known, item, batch)
        _touch(result, known, item)
        result.outcomes["stale"] += 1
    elif is_same:
        result.lifted.append((uri, live.risen_to(event.rev)))
        result.outcomes["lifted"] += 1
    elif isinstance(event, CreateEvent | UpdateEvent):
        version = batch.versions.get(uri) or version_of(event, uri)
        _plan_write(result, known, item, event, version)
    else:
        _plan_absence(result, uri, event, was_live=live is not NOT_THERE)
        result.outcomes["deleted"] += 1


def _plan_write(
    result: Plan, known: Known, item: Item, event: CreateEvent | UpdateEvent, version: Version | BadInput
) -> None:
    uri = event.uri
    was_live = uri in known.live
    if isinstance(version, BadInput):
        _plan_absence(result, uri, event, was_live=was_live)
        if version.reason == "not_storable":
            result.poison.append((item, version.detail))
        result.outcomes[version.reason] += 1
        return
    if was_live:
        _end(result, uri)
        result.rewritten.append(version.record)
    else:
        result.records.append(version.record)
        if uri in known.dead:
            result.revived.append(uri)
    _add(result, uri, version)
    result.outcomes["written"] += 1


def _plan_dating(result: Plan, event: CreateEvent | UpdateEvent, live: Live) -> None:
    """The rows that a backfill brought, with the time that the live event tells."""
    uri, rev, time = event.uri, max(event.rev, live.true_rev), normalised(event.time)
    result.dated.append(uri)
    version = version_of(msgspec.structs.replace(event, rev=rev, time=time), uri) if time != live.time else None
    if version is None or isinstance(version, BadInput):
        result.lifted.append((uri, rev))
        return
    result.rewritten.append(version.record)
    rewrite(result, uri, version, {table for table in HANDLERS[event.collection].tables if table.farewell})


def rewrite(result: Plan, uri: str, version: Version, staying: Container[Table]) -> None:
    """Plan to make the rows of a record anew, as an edit to the same content would.

    Those in the tables that are `staying` are left alone, as it must be where they would tell of their going.
    """
    _remove_rows(result, uri, staying)
    _add(result, uri, version, staying)


def _add(result: Plan, uri: str, version: Version, staying: Container[Table] = ()) -> None:
    for typed in version.rows:
        if typed.table not in staying:
            result.rows[typed.table].append(typed)
    if version.concerns_others:
        result.unplaced[uri] = version.thread
    if version.notifications:
        result.notifications[uri] = version.notifications
    result.announcements += version.announcements


def _plan_absence(result: Plan, uri: str, event: RecordEvent, *, was_live: bool) -> None:
    """A version that cannot be indexed counts as present at its rev, and holds nothing: the older one is gone too."""
    if event.collection in REMEMBERED:
        result.lives.append(_end_of(event))
    else:
        result.tombstones.append(Tombstone(uri, event.did, event.rev))
    if was_live:
        result.deleted.append(uri)
        _end(result, uri)


def _pass(result: Plan, known: Known, item: Item, batch: Batch) -> None:
    """A version that is not the newest has been there before. If a snapshot went past it, it was gone by then."""
    event = item.event
    assert isinstance(event, RecordEvent)  # noqa: S101 - for the type checker: collect() puts nothing else there
    live = known.live.get(event.uri, NOT_THERE)
    if event.collection not in REMEMBERED or event.did in known.removed or event.rev == live.true_rev:
        return
    passed, floor = _life(event), known.floors.get(event.did, "")
    if passed.says and _is_known(event, live, batch.newest[event.uri], item):
        return
    result.lives.append(passed)
    if passed.says and max(live.rev, known.dead.get(event.uri, "")) < event.rev < floor:
        result.lives.append(gone_since(event.uri, floor))


def _is_known(event: RecordEvent, live: Live, newest: Item, item: Item) -> bool:
    """Whether this version is known by a newer rev, and since when it has been there."""
    if newest is not item and _cid(event) == _cid(newest.event):
        return True
    return _cid(event) == live.cid and not (isinstance(event, CreateEvent | UpdateEvent) and live.is_dated_by(event))


def _cid(event: object) -> str:
    return event.cid if isinstance(event, CreateEvent | UpdateEvent) else ""


def _life(event: RecordEvent) -> Life:
    version = version_of(event, event.uri) if isinstance(event, CreateEvent | UpdateEvent) else None
    if version is None or isinstance(version, BadInput):
        return _end_of(event)
    record = version.record
    return life(record.uri, record.rev, record.indexed_at, event.collection, orjson.loads(record.json))


def _end_of(event: RecordEvent) -> Life:
    """A backfill says that nothing is there any more, and its rev when that was so at the latest."""
    if event.seq == SEQ_BACKFILL:
        return gone_since(event.uri, event.rev)
    return end(event.uri, event.rev, normalised(event.time))


def gone_since(uri: str, rev: str) -> Life:
    """Of a key that a snapshot of this rev does not have."""
    return end(uri, rev, utc_text(datetime.fromtimestamp(tid_microseconds(rev) / 1_000_000, UTC)))


def _end(result: Plan, uri: str) -> None:
    _remove_rows(result, uri)
    if collection_of(uri) in REMEMBERED:
        result.ending.append(uri)


def _remove_rows(result: Plan, uri: str, staying: Container[Table] = ()) -> None:
    for table in HANDLERS[collection_of(uri)].tables:
        if table not in staying:
            result.removed[table].append(uri)


def remove(result: Plan, uris: list[str]) -> None:
    """Plan the removal of records for another reason than an event: a snapshot lacks them, an account is gone."""
    for uri in sorted(uris):
        result.deleted.append(uri)
        if collection_of(uri) in HANDLERS:
            _remove_rows(result, uri)


def _touch(result: Plan, known: Known, item: Item) -> None:
    """An older version leaves traces: aggregates that it would have counted towards, and, unless its account is gone,
    what it announced and rows that are kept as deleted.
    """
    event = item.event
    if not isinstance(event, CreateEvent | UpdateEvent) or event.collection not in HANDLERS:
        return
    version = version_of(event, event.uri)
    if isinstance(version, BadInput):
        return
    rows = version.rows
    result.touched.update(key for row in rows for key in counted_keys(row))
    if event.did in known.removed and event.rev <= known.floors[event.did]:
        return
    result.announcements += version.announcements
    for row in rows:
        if row.table.deleted_at:
            result.ghosts[tuple(row[column] for column in row.table.key)] = row.marked_deleted(normalised(event.time))


def counted_keys(row: Row) -> Iterator[tuple[TableCounter, str]]:
    """The aggregates that a row counts towards."""
    for counter in row.table.counters:
        if key := row[counter.by]:
            yield counter, key
