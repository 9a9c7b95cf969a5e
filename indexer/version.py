"""What one version of a record becomes, whatever the database holds: a record row, typed rows, notifications."""

from collections.abc import Sequence

import msgspec
import orjson
from msgspec import Struct

from common.errors import BadInput
from common.events import SEQ_BACKFILL, WrittenEvent
from indexer.dating import dated, stored_rev
from indexer.handler import Record
from indexer.lexicon import validator
from indexer.lexicon_formats import normalised
from indexer.records import HANDLERS
from indexer.tables import Row

_DEEPEST = 250  # orjson writes 254 levels
RECORD_COLUMNS = ("uri", "cid", "did", "json", "indexedAt", "rev")

_decode = msgspec.json.Decoder().decode  # every integer is one, where orjson makes floats of those beyond 64 bits
_VALIDATE = {collection: validator(collection) for collection in HANDLERS}


class RecordRow(Struct, frozen=True):
    """In the order of RECORD_COLUMNS."""

    uri: str
    cid: str
    did: str
    json: str
    indexed_at: str
    rev: str


class Announcement(Struct, frozen=True):
    """A notification that the first version of a record makes.

    `undated`: the time that it had until this live event came; None if it has still to come (dating.py).
    """

    row: Row
    undated: str | None


class Version(Struct, frozen=True):
    """`notifications` are those that look at no other record. `concerns_others`: to be settled (settlement.py).

    `thread`: the root of a reply.
    """

    record: RecordRow
    rows: Sequence[Row]
    notifications: Sequence[Row]
    announcements: Sequence[Announcement]
    concerns_others: bool
    thread: str | None


def version_of(event: WrittenEvent, uri: str) -> Version | BadInput:
    """BadInput, as a value, for what cannot be indexed: invalid_record, foreign_subject, not_storable."""
    text = bytes(event.record)
    try:
        value = _decode(text)
        _refuse_depth(text, value)
        _VALIDATE[event.collection](value)
        handler = HANDLERS[event.collection]
        record = dated(event, Record(uri, event.cid, event.did, event.rkey, value, normalised(event.time)))
        rows = list(handler.rows(record))
        _refuse_nul(rows)
        row = RecordRow(uri, event.cid, event.did, text.decode(), record.indexed_at, stored_rev(event))
        undated = record.created_at if event.seq != SEQ_BACKFILL else None
        announcements = [Announcement(told, undated) for told in handler.announcements(record)]
        concerns_others = handler.concerns_others(record)
        thread = record.optional_text("reply", "root", "uri") if concerns_others else None
        return Version(row, rows, list(handler.notifications(record)), announcements, concerns_others, thread)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return BadInput("invalid_record", str(error))
    except BadInput as refusal:
        return refusal


def _refuse_depth(text: bytes, value: object) -> None:
    """Parts of a record are stored as JSON of their own, and what can be read can be nested deeper than what can be
    written."""
    if text.count(b"{") + text.count(b"[") > _DEEPEST:
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError as error:
            raise BadInput("invalid_record", str(error)) from error


def _refuse_nul(rows: Sequence[Row]) -> None:
    """Postgres has no NUL in text, and stripping it would store what nobody signed."""
    for row in rows:
        for value in row.values:
            if isinstance(value, str) and "\x00" in value:
                raise BadInput("not_storable", f"NUL in a text of {row.table.name}")
