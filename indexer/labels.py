"""Labels as the AppView reads them: for each (src, uri, cid, val) the newest, withdrawn ones included."""

import re
from collections.abc import Iterable

import msgspec

from common.errors import BadInput
from common.events import Label, LabelEvent
from indexer.lexicon_formats import normalised
from indexer.session import Session, columns

Key = tuple[str, str, str, str]
Version = tuple[str, int]
_LONGEST_KEY = 2600  # bytes, of the 2704 that a row of an index can have
_OF_OTHER_INGESTERS = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) ([0-9:.]{8,32}) UTC")


def sorted_out(event: LabelEvent) -> tuple[LabelEvent, list[BadInput]]:
    """The labels that can be stored, their times in the one form that can be compared as text; and, as values, what is
    wrong with the others: "bad_entry", "not_storable".
    """
    kept: list[Label] = []
    refusals: list[BadInput] = []
    for label in event.labels:
        try:
            kept.append(_storable(label))
        except BadInput as refusal:
            refusals.append(refusal)
    return LabelEvent(seq=event.seq, labels=tuple(kept)), refusals


def newest(events: Iterable[LabelEvent]) -> dict[Key, tuple[Version, Label]]:
    """Of each label the newest by (cts, seq) (spec: label, label lifecycle), whatever the order of the events.

    Their times must be normal. Of those that one event has for a key at one cts, the last counts.
    """
    found: dict[Key, tuple[Version, Label]] = {}
    for event in events:
        for label in event.labels:
            key, version = (label.src, label.uri, label.cid or "", label.val), (label.cts, event.seq)
            if key not in found or found[key][0] <= version:
                found[key] = (version, label)
    return found


async def apply(session: Session, events: Iterable[LabelEvent]) -> None:
    """A withdrawn label stays as a row with neg, so that an old copy of it cannot bring it back."""
    wanted = sorted(newest(events).items(), key=lambda pair: pair[0])
    if not wanted:
        return
    advanced = await session.fetch(_ADVANCE, *columns([(*key, *version) for key, (version, _) in wanted]))
    won = {tuple(row) for row in advanced}
    rows = [(*key, bool(label.neg), label.cts, label.exp) for key, (_, label) in wanted if key in won]
    changed = await session.fetch(_WRITE, *columns(rows)) if rows else []
    session.rows += len(changed)


def _storable(label: Label) -> Label:
    """The AppView casts `exp` to a timestamp without a look at its offset, and fails on what is no time."""
    key = "".join((label.src, label.uri, label.cid or "", label.val))
    if "\x00" in key:
        raise BadInput("not_storable", "NUL in a text of a label")
    if len(key.encode()) > _LONGEST_KEY:
        raise BadInput("not_storable", "a label longer than an index can hold")
    exp = None if label.exp is None else _normal(label.exp)
    return msgspec.structs.replace(label, cts=_normal(label.cts), exp=exp)


def _normal(time: str) -> str:
    """Some ingesters write `2026-11-20 22:34:24.759 UTC`."""
    other = _OF_OTHER_INGESTERS.fullmatch(time)
    try:
        normal = normalised(f"{other[1]}T{other[2]}Z" if other else time)
    except BadInput as bad:
        raise BadInput("bad_entry", f"time {time[:40]!r}") from bad
    if normal < "0001":
        raise BadInput("bad_entry", f"time {time[:40]!r}: our calendar begins with the year 1")
    return normal


# First the versions: their rows are what two indexers meet at, and the keys that come back are those that won.
_ADVANCE = """
INSERT INTO {own}.label_version AS known (src, uri, cid, val, cts, seq)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
ON CONFLICT (src, uri, cid, val) DO UPDATE SET cts = EXCLUDED.cts, seq = EXCLUDED.seq
WHERE (known.cts, known.seq) < (EXCLUDED.cts, EXCLUDED.seq)
RETURNING src, uri, cid, val
"""
_WRITE = """
INSERT INTO {app}.label AS known (src, uri, cid, val, neg, cts, exp)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::text[], $7::text[])
ON CONFLICT (src, uri, cid, val) DO UPDATE SET neg = EXCLUDED.neg, cts = EXCLUDED.cts, exp = EXCLUDED.exp
WHERE (known.neg, known.cts, known.exp) IS DISTINCT FROM (EXCLUDED.neg, EXCLUDED.cts, EXCLUDED.exp)
RETURNING neg
"""
