"""Of records that say the same (two likes of one post by one person) one has a row: the earliest, whatever came first.

The others wait in duplicate_record, and the next one takes over when the first is deleted. All of them belong to
one repo, which the batch has locked.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.syntax import collection_of
from indexer import notices
from indexer.counts import Deltas
from indexer.handler import stored_record
from indexer.records import HANDLERS
from indexer.session import Session, columns
from indexer.tables import Row, Table

Key = tuple[Any, ...]


async def insert(session: Session, rows: Mapping[Table, Sequence[Row]], deltas: Deltas) -> None:
    """Insert rows; where several claim one place, the earliest gets it and the others become duplicates."""
    first: dict[Table, list[Row]] = {}
    losers: dict[Table, list[Row]] = {}
    for table, claims in rows.items():
        first[table], losers[table] = _earliest(claims) if table.unique else (list(claims), [])
        first[table].sort(key=lambda row: row.values)
    for table, new in (await session.insert(first)).items():
        deltas.count(table, new, +1)
        if table.unique:
            there = {row[table.owner] for row in new}
            losers[table] += [row for row in first[table] if row[table.owner] not in there]
    for table, beaten in losers.items():
        if beaten:
            await _contest(session, table, beaten, deltas)


async def promote(session: Session, freed: Sequence[str], deltas: Deltas) -> dict[str, Sequence[Row]]:
    """The places that the records `freed` held go to the earliest of their duplicates.

    The answer is what each of the duplicates would tell people; those that got a place are in deltas.gained.
    """
    waiting = await session.fetch(_WAITING, sorted(freed)) if freed else []
    rows: dict[Table, list[Row]] = defaultdict(list)
    notifications: dict[str, Sequence[Row]] = {}
    for found in waiting:
        record = stored_record(found)
        handler = HANDLERS[collection_of(record.uri)]
        notifications[record.uri] = list(handler.notifications(record))
        for row in handler.rows(record):
            if row.table.unique:
                rows[row.table].append(row)
    if waiting:
        uris = [found["uri"] for found in waiting]
        await session.execute("DELETE FROM {app}.duplicate_record WHERE uri = ANY($1::text[])", uris)
    await insert(session, rows, deltas)
    return notifications


async def _contest(session: Session, table: Table, losers: Sequence[Row], deltas: Deltas) -> None:
    """Losers against those who hold their places: a loser that is earlier takes over."""
    holders = {_key(row, table): row for row in await _holders(session, table, losers)}
    claims: dict[Key, list[Row]] = defaultdict(list)
    for row in losers:
        claims[_key(row, table)].append(row)
    takeovers = {
        key: best
        for key, rows in claims.items()
        if (best := min(rows, key=_seniority)) and _seniority(best) < _seniority(holders[key])
    }
    if takeovers:
        beaten = [holders[key][table.owner] for key in takeovers]
        gone = await session.fetch(
            f'DELETE FROM {{app}}."{table.name}" WHERE "{table.owner}" = ANY($1::text[]) RETURNING *', sorted(beaten)
        )
        deltas.count(table, gone, -1)
        await notices.forget(session, beaten)
        winners = sorted(takeovers.values(), key=lambda row: row.values)
        deltas.count(table, (await session.insert({table: winners}))[table], +1)
        await session.execute(_REPOINT, beaten, [best[table.owner] for best in takeovers.values()])
    await _note(session, table, claims, holders, takeovers)


async def _note(
    session: Session,
    table: Table,
    claims: dict[Key, list[Row]],
    holders: dict[Key, Any],
    takeovers: dict[Key, Row],
) -> None:
    notes = []
    for key, rows in claims.items():
        winner = takeovers.get(key, holders[key])
        beaten = [row for row in (*rows, holders[key]) if row[table.owner] != winner[table.owner]]
        notes += [(row["uri"], row["cid"], winner["uri"], row["indexedAt"]) for row in beaten]
    notes.sort()
    await session.execute(_NOTE, *columns(notes))


async def _holders(session: Session, table: Table, losers: Sequence[Row]) -> list[Any]:
    names = ", ".join(f'"{column}"' for column in table.unique)
    arrays = ", ".join(f"${n}::text[]" for n in range(1, len(table.unique) + 1))
    keys = sorted({_key(row, table) for row in losers})
    return await session.fetch(
        f'SELECT uri, cid, "indexedAt", {names} FROM {{app}}."{table.name}" '
        f"WHERE ({names}) IN (SELECT * FROM unnest({arrays}))",
        *columns(keys),
    )


def _earliest(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    first: dict[Key, Row] = {}
    rest: list[Row] = []
    for row in sorted(rows, key=_seniority):
        key = _key(row, row.table)
        if key in first:
            rest.append(row)
        else:
            first[key] = row
    return list(first.values()), rest


def _seniority(row: Any) -> tuple[str, str]:
    return (row["indexedAt"], row["uri"])


def _key(row: Any, table: Table) -> Key:
    return tuple(row[column] for column in table.unique)


_WAITING = """
SELECT record.uri, record.cid, record.json, record."indexedAt"
FROM {app}.duplicate_record JOIN {app}.record USING (uri)
WHERE duplicate_record."duplicateOf" = ANY($1::text[]) ORDER BY uri
"""
_REPOINT = """
UPDATE {app}.duplicate_record SET "duplicateOf" = new.winner
FROM unnest($1::text[], $2::text[]) AS new(loser, winner) WHERE "duplicateOf" = new.loser
"""
_NOTE = """
INSERT INTO {app}.duplicate_record (uri, cid, "duplicateOf", "indexedAt")
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
ON CONFLICT (uri) DO UPDATE SET cid = EXCLUDED.cid, "duplicateOf" = EXCLUDED."duplicateOf"
"""
