"""Small histories of a few repos, as their hosts would have written them, and the many ways in which they may arrive."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from common.events import CreateEvent, DeleteEvent, RecordEvent, StreamEvent
from tests import factories as make
from tests.factories import ALICE, BOB, POST, PROFILE, Json, uri

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]

PEOPLE = (ALICE, BOB)
SUBJECTS = tuple(uri(who, POST, rkey) for who in PEOPLE for rkey in ("a", "b"))
GATES = "app.bsky.feed.threadgate"


@dataclass
class World:
    """What happened so far. Each version of a record has its own content, and each commit its own time."""

    choose: Choose[Any]
    collections: Sequence[str]
    events: list[StreamEvent] = field(default_factory=list)
    records: dict[tuple[str, str, str], RecordEvent] = field(default_factory=dict)
    clock: int = 0

    def step(self) -> None:
        self.clock += 1
        who = self.choose(PEOPLE)
        match self.choose(["write", "write", "write", "write", "delete", "snapshot", "account"]):
            case "write":
                self._write(who)
            case "delete":
                self._delete(who)
            case "snapshot":
                self._snapshot(who)
            case "account":
                status = self.choose([None, "deactivated", "takendown"])
                self.events.append(make.account(who, self.clock, active=status is None, status=status))

    def _write(self, who: str) -> None:
        collection = self.choose(self.collections)
        rkey = "self" if collection == PROFILE else self.choose(["a", "b", "c"])
        key = (who, collection, rkey)
        value = self._value(who, collection, rkey) | {"version": self.clock}
        made = (make.update if key in self.records else make.create)(who, rkey, value, self.clock)
        self.records[key] = made
        self.events.append(made)

    def _value(self, who: str, collection: str, rkey: str) -> Json:
        subject = self.choose(SUBJECTS)
        match collection:
            case make.POST:
                kind = self.choose(["post", "reply", "reply below"])
                other = self.choose(SUBJECTS)
                return {"post": make.post(), "reply": make.reply(subject), "reply below": make.reply(subject, other)}[
                    kind
                ]
            case make.LIKE:
                return make.like(subject)
            case make.REPOST:
                return make.repost(subject)
            case make.FOLLOW:
                return make.follow(self.choose(PEOPLE))
            case make.BLOCK:
                return make.record(make.BLOCK, subject=self.choose(PEOPLE))
            case make.PROFILE:
                return make.profile(f"at {self.clock}")
            case _:
                allow: list[Json] = self.choose([[], [{"$type": f"{GATES}#mentionRule"}]])
                return make.record(GATES, post=uri(who, POST, rkey), allow=allow)

    def _delete(self, who: str) -> None:
        mine = sorted(key for key in self.records if key[0] == who)
        if mine:
            key = self.choose(mine)
            del self.records[key]
            self.events.append(make.delete(*key, self.clock))

    def _snapshot(self, who: str) -> None:
        """The repo as it is now. Its records have the times that they had live: the clock is not what is tried here."""
        mine = {key[1:]: event for key, event in self.records.items() if key[0] == who}
        values = {
            key: msgspec.json.decode(event.record) for key, event in mine.items() if not isinstance(event, DeleteEvent)
        }
        for part in make.snapshot(who, values, self.clock, read_at=self.clock):
            live = mine.get((part.collection, part.rkey)) if isinstance(part, CreateEvent) else None
            self.events.append(msgspec.structs.replace(part, time=live.time) if live else part)


def history(choose: Choose[Any], steps: int, collections: Sequence[str]) -> list[StreamEvent]:
    """Every event of what happened, in the order in which it did."""
    world = World(choose, collections)
    for _ in range(steps):
        world.step()
    return world.events
