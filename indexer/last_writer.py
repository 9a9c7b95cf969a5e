"""Last writer wins: what becomes of each record of a batch, given what is known of it. The database is not touched."""

from collections.abc import Container, Iterator, Sequence

import msgspec

from common.errors import BadInput
from common.events import CreateEvent, RecordEvent, UpdateEvent
from indexer.batch import Batch, Item
from indexer.dating import NOT_THERE, Live
from indexer.lexicon_formats import normalised
from indexer.lives import REMEMBERED
from indexer.passing import end_of, holds_something, passed
from indexer.plan import Known, Plan, Tombstone, add, end_version, rewrite
from indexer.records import HANDLERS
from indexer.version import Version, version_of


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
    ended = set(_ended(batch, known))
    for uri, item in sorted(batch.newest.items()):
        if item.event.collection in collections:  # type: ignore[union-attr]  # collect() puts nothing else there
            _plan_one(result, known, batch, uri, was_ended=uri in ended)
        else:
            result.outcomes["unknown_collection"] += 1
    for item in batch.superseded:
        passed(result, known, item, batch)
        result.outcomes["superseded"] += 1
    return result


def _ended(batch: Batch, known: Known) -> Iterator[str]:
    """Records that are there and went in the course of the batch: what it makes of them again is new."""
    for item in batch.superseded:
        event = item.event
        assert isinstance(event, RecordEvent)  # noqa: S101 - for the type checker: collect() puts nothing else there
        live = known.live.get(event.uri)
        if live and event.rev > live.true_rev and not holds_something(event):
            yield event.uri


def _plan_one(result: Plan, known: Known, batch: Batch, uri: str, *, was_ended: bool) -> None:
    item = batch.newest[uri]
    event = item.event
    assert isinstance(event, RecordEvent)  # noqa: S101 - for the type checker: collect() puts nothing else there
    live = known.live.get(uri, NOT_THERE)
    newest = max(live.rev, known.dead.get(uri, ""), known.floors.get(event.did, ""))
    is_same = isinstance(event, CreateEvent | UpdateEvent) and event.cid == live.cid and not was_ended
    if isinstance(event, CreateEvent | UpdateEvent) and is_same and live.is_dated_by(event):
        _plan_dating(result, event, live)
        result.outcomes["written"] += 1
    elif event.rev <= newest:
        passed(result, known, item, batch)
        result.outcomes["stale"] += 1
    elif is_same:
        result.lifted.append((uri, live.risen_to(event.rev)))
        result.outcomes["lifted"] += 1
    elif isinstance(event, CreateEvent | UpdateEvent):
        version = batch.versions.get(uri) or version_of(event, uri)
        _plan_write(result, known, item, event, version, was_ended=was_ended)
    else:
        _plan_absence(result, uri, event, was_live=live is not NOT_THERE)
        result.outcomes["deleted"] += 1


def _plan_write(
    result: Plan,
    known: Known,
    item: Item,
    event: CreateEvent | UpdateEvent,
    version: Version | BadInput,
    *,
    was_ended: bool,
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
        end_version(result, uri)
    if was_live and not was_ended:
        result.rewritten.append(version.record)
    else:
        result.records.append(version.record)
    if was_ended:
        result.deleted.append(uri)
    elif uri in known.dead:
        result.revived.append(uri)
    add(result, uri, version)
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


def _plan_absence(result: Plan, uri: str, event: RecordEvent, *, was_live: bool) -> None:
    """A version that cannot be indexed counts as present at its rev, and holds nothing: the older one is gone too."""
    if event.collection in REMEMBERED:
        result.lives.append(end_of(event))
    else:
        result.tombstones.append(Tombstone(uri, event.did, event.rev))
    if was_live:
        result.deleted.append(uri)
        end_version(result, uri)
