"""What a batch changes in the tables, before anything is done, and the steps that such a plan is made of."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from common.syntax import collection_of
from indexer.batch import Item
from indexer.dating import Live
from indexer.lives import REMEMBERED, Life
from indexer.records import HANDLERS
from indexer.tables import Counter as TableCounter
from indexer.tables import Row, Table
from indexer.version import Announcement, RecordRow, Version


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


def rewrite(result: Plan, uri: str, version: Version, staying: Container[Table]) -> None:
    """Plan to make the rows of a record anew, as an edit to the same content would.

    Those in the tables that are `staying` are left alone, as it must be where they would tell of their going.
    """
    remove_rows(result, uri, staying)
    add(result, uri, version, staying)


def add(result: Plan, uri: str, version: Version, staying: Container[Table] = ()) -> None:
    for typed in version.rows:
        if typed.table not in staying:
            result.rows[typed.table].append(typed)
    if version.concerns_others:
        result.unplaced[uri] = version.thread
    if version.notifications:
        result.notifications[uri] = version.notifications
    result.announcements += version.announcements


def end_version(result: Plan, uri: str) -> None:
    remove_rows(result, uri)
    if collection_of(uri) in REMEMBERED:
        result.ending.append(uri)


def remove(result: Plan, uris: list[str]) -> None:
    """Plan the removal of records for another reason than an event: a snapshot lacks them, an account is gone."""
    for uri in sorted(uris):
        result.deleted.append(uri)
        if collection_of(uri) in HANDLERS:
            remove_rows(result, uri)


def remove_rows(result: Plan, uri: str, staying: Container[Table] = ()) -> None:
    for table in HANDLERS[collection_of(uri)].tables:
        if table not in staying:
            result.removed[table].append(uri)


def counted_keys(row: Row) -> Iterator[tuple[TableCounter, str]]:
    """The aggregates that a row counts towards."""
    for counter in row.table.counters:
        if key := row[counter.by]:
            yield counter, key
