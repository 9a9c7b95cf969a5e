"""What could not be written, with its bytes: to be looked at, and replayed."""

from collections.abc import Iterable
from dataclasses import dataclass

from indexer.batch import Item
from indexer.session import Session, columns


@dataclass(frozen=True, slots=True)
class DeadLetter:
    stream: str
    item: Item
    reason: str
    sqlstate: str
    error: str


async def bury(session: Session, letters: Iterable[DeadLetter]) -> None:
    rows = []
    for letter in letters:
        event, delivery = letter.item.event, letter.item.delivery
        whose = (getattr(event, "did", ""), getattr(event, "uri", ""))
        payload = delivery.payload if delivery.payload is not None else repr(delivery.fields).encode()
        why = (letter.reason, letter.sqlstate, payload, letter.error)
        rows.append((letter.stream, delivery.id.decode(), *whose, *why))
    if rows:
        await session.execute(_DEAD_LETTERS, *columns(rows))


_DEAD_LETTERS = """
INSERT INTO {own}.dead_letter (stream, entry_id, did, uri, reason, sqlstate, payload, error)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[])
ON CONFLICT (stream, entry_id) DO NOTHING
"""
