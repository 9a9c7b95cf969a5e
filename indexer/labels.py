"""Labels as the AppView reads them: for each (src, uri, cid, val) the newest, withdrawn ones included."""

from collections.abc import Iterable
from dataclasses import dataclass

from common.events import Label, LabelEvent
from indexer.session import Session, columns

Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Labels that now apply, and labels that were withdrawn."""

    added: int
    removed: int


def newest(events: Iterable[LabelEvent]) -> dict[Key, Label]:
    """Of each label the newest by (cts, seq) (spec: label, label lifecycle)."""
    ranked: dict[Key, tuple[tuple[str, int], Label]] = {}
    for event in events:
        for label in event.labels:
            key = (label.src, label.uri, label.cid or "", label.val)
            rank = (label.cts, event.seq)
            if key not in ranked or ranked[key][0] <= rank:
                ranked[key] = (rank, label)
    return {key: label for key, (_, label) in ranked.items()}


async def apply(session: Session, events: Iterable[LabelEvent]) -> LabelCounts:
    """A withdrawn label stays as a row with neg, so that an old copy of it cannot bring it back."""
    rows = [
        (*key, bool(label.neg), label.cts, label.exp)
        for key, label in sorted(newest(events).items(), key=lambda pair: pair[0])
    ]
    if not rows:
        return LabelCounts(0, 0)
    changed = await session.fetch(_WRITE, *columns(rows))
    session.rows += len(changed)
    removed = sum(row["neg"] for row in changed)
    return LabelCounts(len(changed) - removed, removed)


_WRITE = """
INSERT INTO {app}.label AS known (src, uri, cid, val, neg, cts, exp)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::text[], $7::text[])
ON CONFLICT (src, uri, cid, val) DO UPDATE SET neg = EXCLUDED.neg, cts = EXCLUDED.cts, exp = EXCLUDED.exp
WHERE known.cts COLLATE "C" <= EXCLUDED.cts
  AND (known.neg, known.cts, known.exp) IS DISTINCT FROM (EXCLUDED.neg, EXCLUDED.cts, EXCLUDED.exp)
RETURNING neg
"""
