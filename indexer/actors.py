"""What the events of a batch say about people: that they exist, that their handle may have changed, their status.

An actor row is written at once, without a handle (a view hides authors that have none); the handle is looked up
off the hot path (handles.py), and so is whether an account that is said to be deleted really is (deletions.py).
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from common.events import AccountEvent
from common.syntax import utc_text
from indexer.batch import Batch
from indexer.session import Session, columns

RECHECK_AFTER = timedelta(hours=24)
RECHECK_WITHOUT_HANDLE_AFTER = timedelta(hours=1)
# the sender's own trouble, which says nothing about the account (spec: account, account status)
_TRANSPORT_STATUSES = ("desynchronized", "throttled")


async def lock(session: Session, dids: Collection[str]) -> None:
    """What is read of these people from now on stays as it is. To be done once, after their repos were locked."""
    if dids:
        await session.execute(_LOCK, sorted(dids))


async def apply(session: Session, batch: Batch, floors: Mapping[str, str], removed: Collection[str]) -> None:
    """`floors`: the rev up to which a repo is reflected: events below it are replays, and give birth to nobody.

    `removed`: repos that went with their accounts.
    """
    identities = await _newer(session, "identity_time", batch.identities)
    accounts = await _newer(session, "account_time", {did: event.time for did, event in batch.accounts.items()})
    replayed = {did for did, (rev, _) in batch.commits.items() if rev <= floors.get(did, "")}
    events = [batch.accounts[did] for did in sorted(accounts)]
    present = [event for event in events if not is_deletion(event)]
    known = await _note_actors(session, batch, identities, {event.did for event in present}, replayed)
    await _fetch_again(session, [event for event in present if event.active], batch.away, known, removed)
    await _write_statuses(session, present)
    if gone := [event for event in events if is_deletion(event)]:
        await session.execute(_CHECK_DELETION, [event.did for event in gone], [event.time for event in gone])
    if back := sorted(event.did for event in events if event.active):
        await session.execute("DELETE FROM {own}.deletion_check WHERE did = ANY($1::text[])", back)


def is_deletion(event: AccountEvent) -> bool:
    return not event.active and (event.status or "").lower() == "deleted"


def stored_status(event: AccountEvent) -> str | None:
    """What the AppView hides an account for; unknown statuses are kept as they are, in lower case."""
    return None if event.active else (event.status or "inactive").lower()


async def _newer(session: Session, column: str, times: Mapping[str, str]) -> set[str]:
    """The DIDs whose event is the newest of its kind; the others are replays, and change nothing."""
    if not times:
        return set()
    dids = sorted(times)
    rows = await session.fetch(_NEWER.replace("{column}", column), dids, [times[did] for did in dids])
    return {row["did"] for row in rows}


async def _note_actors(
    session: Session, batch: Batch, identities: set[str], present: set[str], replayed: set[str]
) -> Mapping[str, Any]:
    """New people get a row, and whoever's handle is due for a look gets in the queue. The answer: who was known."""
    alive = {did: sorted(times) for did, times in batch.times.items()}
    dids = sorted((alive.keys() | batch.backfilled.keys()) - replayed | identities | present)
    known = {row["did"]: row for row in await session.fetch(_READ, dids)}
    born: list[tuple[str, str]] = []
    checks: dict[str, str] = {did: batch.identities[did] for did in identities}
    for did in dids:
        if did not in known:
            first = _first_time(batch, did, alive.get(did), checks.get(did))
            born.append((did, first))
            checks.setdefault(did, first)
        elif did in alive and did not in checks and (time := _recheck_time(known[did], alive[did])):
            checks[did] = time
    if born:
        await session.execute(_WRITE_ACTORS, *columns(born))
    if checks:
        await session.execute(_CHECK_HANDLE, *columns(sorted(checks.items())))
    return known


def _first_time(batch: Batch, did: str, alive: Sequence[str] | None, identity: str | None) -> str:
    """The time of the event that a person is known by first."""
    if alive:
        return alive[0]
    return identity or batch.backfilled.get(did) or batch.accounts[did].time


def _recheck_time(actor: Any, times: Sequence[str]) -> str | None:
    """The first of `times` at which a handle that was looked up at actor.indexedAt is due again."""
    if actor["pending"] or times[-1] <= actor["indexedAt"]:
        return None
    wait = RECHECK_AFTER if actor["handle"] else RECHECK_WITHOUT_HANDLE_AFTER
    due = utc_text(datetime.fromisoformat(actor["indexedAt"]) + wait)
    return next((time for time in times if time > due), None)


async def _fetch_again(
    session: Session,
    active: Sequence[AccountEvent],
    absent: Collection[str],
    known: Mapping[str, Any],
    removed: Collection[str],
) -> None:
    """Who was away is back: a backfill brings what was missed. Of who was removed, old versions count again."""
    restored = sorted(event.did for event in active if event.did in removed)
    hidden = {did for did, actor in known.items() if actor["upstreamStatus"] is not None}
    if restored:
        await session.execute("UPDATE {own}.repo SET floor_rev = '' WHERE did = ANY($1::text[])", restored)
    back = sorted((event.did, event.time) for event in active if event.did in {*restored, *hidden, *absent})
    if back:
        await session.execute(_RESYNC, *columns(back))


async def _write_statuses(session: Session, events: Sequence[AccountEvent]) -> None:
    telling = [event for event in events if stored_status(event) not in _TRANSPORT_STATUSES]
    if telling:
        rows = [(event.did, event.time, stored_status(event)) for event in telling]
        await session.execute(_WRITE_STATUSES, *columns(rows))


_LOCK = """
INSERT INTO {own}.repo AS known (did) SELECT unnest($1::text[])
ON CONFLICT (did) DO UPDATE SET did = EXCLUDED.did WHERE false
"""
_NEWER = """
INSERT INTO {own}.repo AS known (did, {column}) SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (did) DO UPDATE SET {column} = EXCLUDED.{column} WHERE known.{column} < EXCLUDED.{column}
RETURNING did
"""
_READ = """
SELECT actor.did, handle, "indexedAt", "upstreamStatus", handle_check.did IS NOT NULL AS pending
FROM {app}.actor LEFT JOIN {own}.handle_check ON handle_check.did = actor.did
WHERE actor.did = ANY($1::text[])
"""
_WRITE_ACTORS = """
INSERT INTO {app}.actor (did, "indexedAt") SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING
"""
_CHECK_HANDLE = """
INSERT INTO {own}.handle_check (did, time, due_at)
SELECT did, time, now() FROM unnest($1::text[], $2::text[]) AS new(did, time)
ON CONFLICT (did) DO UPDATE SET time = EXCLUDED.time, due_at = EXCLUDED.due_at, attempts = 0
"""
_WRITE_STATUSES = """
INSERT INTO {app}.actor (did, "indexedAt", "upstreamStatus") SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
ON CONFLICT (did) DO UPDATE SET "upstreamStatus" = EXCLUDED."upstreamStatus"
"""
_CHECK_DELETION = """
INSERT INTO {own}.deletion_check (did, time, due_at)
SELECT did, time, now() FROM unnest($1::text[], $2::text[]) AS new(did, time)
ON CONFLICT (did) DO UPDATE SET time = EXCLUDED.time, due_at = EXCLUDED.due_at, attempts = 0
"""
_RESYNC = """
INSERT INTO {own}.resync (did, time, due_at)
SELECT did, time, now() FROM unnest($1::text[], $2::text[]) AS new(did, time)
ON CONFLICT (did) DO UPDATE SET time = EXCLUDED.time, due_at = EXCLUDED.due_at, attempts = 0
"""
