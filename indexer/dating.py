"""When a record was written: at the time of its live event, however late that comes; until then, when it says itself.

A repo that is fetched whole does not say when its records were written, and the event that does may come before or
after. So the stored rev of what only a backfill has told ends with a mark, until a live event dates it. Meanwhile its
`createdAt` is all that there is: by the time of the backfill its age would depend on which repo was fetched first.
"""

from typing import NamedTuple

from msgspec.structs import replace

from common.events import SEQ_BACKFILL, WrittenEvent
from indexer.handler import Record

FIRST_TIME = "0001"  # our calendar begins with the year 1, and what sorts below it is no time of it
UNDATED = "~"  # sorts after the rev without it, and before every later one


class Live(NamedTuple):
    """A record that is there: its stored rev, its CID, and the time that it has."""

    rev: str = ""
    cid: str = ""
    time: str = ""

    @property
    def true_rev(self) -> str:
        return self.rev.rstrip(UNDATED)

    def is_dated_by(self, event: WrittenEvent) -> bool:
        """Whether this event of the same version tells the time that is not known yet."""
        return self.rev.endswith(UNDATED) and event.seq != SEQ_BACKFILL

    def risen_to(self, rev: str) -> str:
        """The stored rev of the same version at a newer rev."""
        return rev + self.rev[len(self.true_rev) :]


NOT_THERE = Live()


def dated(event: WrittenEvent, record: Record) -> Record:
    """The record with the time that it has by this event alone."""
    if event.seq != SEQ_BACKFILL or record.created_at < FIRST_TIME:
        return record
    return replace(record, indexed_at=record.sort_at)


def stored_rev(event: WrittenEvent) -> str:
    return event.rev + UNDATED if event.seq == SEQ_BACKFILL else event.rev
