"""Versions that are not the newest of their record, and ends of records: what they leave, whenever we hear of them."""

from datetime import UTC, datetime

import orjson

from common.errors import BadInput
from common.events import SEQ_BACKFILL, CreateEvent, RecordEvent, UpdateEvent
from common.syntax import tid_microseconds, utc_text
from indexer.batch import Batch, Item
from indexer.dating import NOT_THERE, Live
from indexer.lexicon_formats import normalised
from indexer.lives import REMEMBERED, Life, end, life
from indexer.plan import Known, Plan, counted_keys
from indexer.records import HANDLERS
from indexer.version import version_of


def passed(result: Plan, known: Known, item: Item, batch: Batch) -> None:
    """Plan what a version leaves that is not the newest."""
    _pass(result, known, item, batch)
    _touch(result, known, item)


def _pass(result: Plan, known: Known, item: Item, batch: Batch) -> None:
    """A version that is not the newest has been there before. If a snapshot went past it, it was gone by then."""
    event = item.event
    assert isinstance(event, RecordEvent)  # noqa: S101 - for the type checker: collect() puts nothing else there
    live = known.live.get(event.uri, NOT_THERE)
    if event.collection not in REMEMBERED or _went_with_its_account(event, known) or event.rev == live.true_rev:
        return
    left, floor = _life(event), known.floors.get(event.did, "")
    if left.says and _is_known(event, live, batch.newest[event.uri], item):
        return
    result.lives.append(left)
    if left.says and max(live.rev, known.dead.get(event.uri, "")) < event.rev < floor:
        result.lives.append(gone_since(event.uri, floor))


def _went_with_its_account(event: RecordEvent, known: Known) -> bool:
    return event.did in known.removed and event.rev <= known.floors[event.did]


def _is_known(event: RecordEvent, live: Live, newest: Item, item: Item) -> bool:
    """Whether this version is known by a newer rev, and since when it has been there."""
    if newest is not item and _cid(event) == _cid(newest.event):
        return True
    return _cid(event) == live.cid and not (isinstance(event, CreateEvent | UpdateEvent) and live.is_dated_by(event))


def _cid(event: object) -> str:
    return event.cid if isinstance(event, CreateEvent | UpdateEvent) else ""


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
    if _went_with_its_account(event, known):
        return
    result.announcements += version.announcements
    for row in rows:
        if row.table.deleted_at:
            result.ghosts[tuple(row[column] for column in row.table.key)] = row.marked_deleted(normalised(event.time))


def holds_something(event: RecordEvent) -> bool:
    """Whether this version is a record that can be indexed."""
    return isinstance(event, CreateEvent | UpdateEvent) and not isinstance(version_of(event, event.uri), BadInput)


def _life(event: RecordEvent) -> Life:
    version = version_of(event, event.uri) if isinstance(event, CreateEvent | UpdateEvent) else None
    if version is None or isinstance(version, BadInput):
        return end_of(event)
    record = version.record
    return life(record.uri, record.rev, record.indexed_at, event.collection, orjson.loads(record.json))


def end_of(event: RecordEvent) -> Life:
    """A backfill says that nothing is there any more, and its rev when that was so at the latest."""
    if event.seq == SEQ_BACKFILL:
        return gone_since(event.uri, event.rev)
    return end(event.uri, event.rev, normalised(event.time))


def gone_since(uri: str, rev: str) -> Life:
    """Of a key that a snapshot of this rev does not have."""
    return end(uri, rev, utc_text(datetime.fromtimestamp(tid_microseconds(rev) / 1_000_000, UTC)))
