"""The vocabulary of the AppView's tables: what a row is made of, whose it is, and what it counts towards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from msgspec import Struct

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Counter:
    """`column` of aggregate `table` counts the rows whose column `by` names the aggregate's key.

    Rows whose column `unless` is true do not count.
    """

    table: str
    key: str
    column: str
    by: str
    unless: str = ""


@dataclass(frozen=True, eq=False)
class Table:
    """A table that record types fill.

    `owner` is the column with the URI of the record that a row came from. `unique` names the columns of which
    only one record may have a row (a like of the same post by the same person): the others are duplicates.
    `types` gives the SQL type of the columns that are not text; generated columns are left out altogether.
    Records with a row where `notifies` is set tell people of it, and take that back with the row.
    `farewell` is the reason of the notification that the subject gets when a row goes; the earlier ones then stay.
    `returns`: what else of a row is of interest when it goes.
    Where `deleted_at` names a column, rows are never removed but marked there, and found again by `key`, which
    `keys` selects for the records of which a row may be there: no index leads there from `owner`.
    """

    name: str
    columns: tuple[str, ...]
    owner: str = "uri"
    unique: tuple[str, ...] = ()
    counters: tuple[Counter, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    notifies: bool = False
    farewell: str = ""
    deleted_at: str = ""
    key: tuple[str, ...] = ()
    keys: str = ""
    returns: tuple[str, ...] = ()
    _in_order: Callable[[Mapping[str, Any]], Values] = field(init=False, repr=False)
    _positions: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_in_order", itemgetter(*self.columns))
        object.__setattr__(self, "_positions", {column: n for n, column in enumerate(self.columns)})

    def row(self, **values: Any) -> "Row":
        """A value for each column, by name. Raises KeyError if one is missing."""
        return Row(self, self._in_order(values))

    def position(self, column: str) -> int:
        return self._positions[column]


class Row(Struct, frozen=True):
    table: Table
    values: Values

    def __getitem__(self, column: str) -> Any:
        return self.values[self.table.position(column)]

    def marked_deleted(self, time: str) -> "Row":
        mark = self.table.position(self.table.deleted_at)
        return Row(self.table, (*self.values[:mark], time, *self.values[mark + 1 :]))


def counted(column: str, by: str, unless: str = "") -> Counter:
    """Counts rows for a record: likes, replies, reposts, quotes."""
    return Counter("post_agg", "uri", column, by, unless)


def counted_by_person(column: str, by: str) -> Counter:
    """Counts rows for a person: followers, follows, posts."""
    return Counter("profile_agg", "did", column, by)
