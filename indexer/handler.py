"""The shape of a record handler: how one record type becomes rows. Data and pure functions only."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from msgspec import Struct
from msgspec.structs import force_setattr

from common.errors import BadInput
from common.syntax import authority_of
from indexer.lexicon_formats import normalised
from indexer.tables import Row, Table


class Record(Struct, frozen=True):
    """A valid record as handlers see it. `indexed_at` is the time of the event that brought this version.

    `created_at` is the record's own createdAt in the form that the AppView stores, empty if it has no valid one.
    """

    uri: str
    cid: str
    did: str
    rkey: str
    value: dict[str, Any]
    indexed_at: str
    created_at: str = ""

    def __post_init__(self) -> None:
        written = self.value.get("createdAt")
        with suppress(BadInput):  # a few types may hold anything
            force_setattr(self, "created_at", normalised(written) if isinstance(written, str) else "")

    def text(self, *path: str) -> str:
        """The string at this path; raises BadInput("invalid_record") if there is none."""
        found = self.optional_text(*path)
        if found is None:
            raise BadInput("invalid_record", f"no {'.'.join(path)}")
        return found

    def optional_text(self, *path: str) -> str | None:
        found = self.find(*path)
        return found if isinstance(found, str) else None

    def blob_cid(self, *path: str) -> str | None:
        """The CID of the blob at this path, as text."""
        return self.optional_text(*path, "ref", "$link")

    def find(self, *path: str) -> Any:
        found: Any = self.value
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        return found

    @property
    def sort_at(self) -> str:
        """The AppView orders by the earlier of the two: a createdAt in the future gains nothing."""
        return min(self.created_at, self.indexed_at)

    def common_columns(self) -> dict[str, Any]:
        """What nearly every row of a record starts with."""
        return {
            "uri": self.uri,
            "cid": self.cid,
            "creator": self.did,
            "createdAt": self.created_at,
            "indexedAt": self.indexed_at,
        }


def stored_record(row: Mapping[str, Any]) -> Record:
    """Of a row of the table `record`: uri, cid, json, indexedAt."""
    uri, value = row["uri"], orjson.loads(row["json"])
    return Record(uri, row["cid"], authority_of(uri), uri.rpartition("/")[2], value, row["indexedAt"])


COMMON_COLUMNS = ("uri", "cid", "creator", "createdAt", "indexedAt")


@dataclass(frozen=True)
class RecordHandler:
    """How the records of one collection become rows.

    `rows` may raise BadInput for rules that the lexicon cannot say. `notifications` are those that need to look at
    no other record; a post's do (threads.py), and
    `concerns_others` says which ones' place among others must be worked out for that. `announcements` are notifications
    that later versions do not repeat, and that stay. `metric` is the name under which the daemon's metrics count this
    type. `since` is the first AppView that has it, if the oldest does not.
    """

    collection: str
    tables: tuple[Table, ...] = ()
    rows: Callable[[Record], Iterable[Row]] = lambda record: ()
    notifications: Callable[[Record], Iterable[Row]] = lambda record: ()
    concerns_others: Callable[[Record], bool] = lambda record: False
    announcements: Callable[[Record], Iterable[Row]] = lambda record: ()
    metric: str = "other"
    since: str = ""
