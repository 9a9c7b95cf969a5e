"""Small histories of a few repos, as their hosts would have written them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from common.events import CreateEvent, StreamEvent, UpdateEvent
from tests import factories as make
from tests.factories import ALICE, BLOCK, BOB, FOLLOW, LIKE, POST, PROFILE, REPOST, Json, uri

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]

DEEDS = ("write",) * 4 + ("delete", "snapshot", "account")
PEOPLE = (ALICE, BOB)
SUBJECTS = tuple(uri(who, POST, rkey) for who in PEOPLE for rkey in ("a", "b"))
GATE = "app.bsky.feed.threadgate"
RULES: list[list[Json]] = [[], [{"$type": f"{GATE}#mentionRule"}]]


@dataclass
class World:
    """What happened so far. Each version of a record has its own content, and each commit its own time."""

    choose: Choose[Any]
    collections: Sequence[str]
    deeds: Sequence[str] = DEEDS
    events: list[StreamEvent] = field(default_factory=list)
    records: dict[tuple[str, str, str], CreateEvent | UpdateEvent] = field(default_factory=dict)
    used: set[tuple[str, str, str]] = field(default_factory=set)
    clock: int = 0

    def step(self) -> None:
        self.clock += 1
        who = self.choose(PEOPLE)
        match self.choose(self.deeds):
            case "write" | "create" as deed:
                self._write(who, may_edit=deed == "write")
            case "delete":
                self._delete(who)
            case "snapshot":
                self._snapshot(who)
            case "account":
                status = self.choose([None, "deactivated", "takendown"])
                self.events.append(make.account(who, self.clock, active=status is None, status=status))

    def _write(self, who: str, *, may_edit: bool) -> None:
        collection = self.choose(self.collections)
        rkey = "self" if collection == PROFILE else self.choose(["a", "b", "c"])
        key = (who, collection, rkey)
        if key in self.used and not may_edit:
            return
        self.used.add(key)
        value = self._value(who, collection, rkey) | {"version": self.clock}
        made = (make.update if key in self.records else make.create)(who, rkey, value, self.clock)
        self.records[key] = made
        self.events.append(made)

    def _value(self, who: str, collection: str, rkey: str) -> Json:
        subject, above, person = self.choose(SUBJECTS), self.choose(SUBJECTS), self.choose(PEOPLE)
        choices: dict[str, list[Json]] = {
            POST: [make.post(), make.reply(subject), make.reply(subject, above)],
            LIKE: [make.like(subject)],
            REPOST: [make.repost(subject)],
            FOLLOW: [make.follow(person)],
            BLOCK: [make.record(BLOCK, subject=person)],
            PROFILE: [make.profile("x")],
            GATE: [make.record(GATE, post=uri(who, POST, rkey), allow=rules) for rules in RULES],
        }
        chosen: Json = self.choose(choices[collection])
        return chosen

    def _delete(self, who: str) -> None:
        mine = sorted(key for key in self.records if key[0] == who)
        if mine:
            key = self.choose(mine)
            del self.records[key]
            self.events.append(make.delete(key[0], key[1], key[2], self.clock))

    def _snapshot(self, who: str) -> None:
        """The repo as it is now. Its records have the times that they had live: the clock is not what is tried here."""
        mine = {key[1:]: event for key, event in self.records.items() if key[0] == who}
        values = {key: msgspec.json.decode(event.record) for key, event in mine.items()}
        for part in make.snapshot(who, values, self.clock, read_at=self.clock):
            live = mine.get((part.collection, part.rkey)) if isinstance(part, CreateEvent) else None
            self.events.append(msgspec.structs.replace(part, time=live.time) if live else part)


def history(
    choose: Choose[Any], steps: int, collections: Sequence[str], deeds: Sequence[str] = DEEDS
) -> list[StreamEvent]:
    """Every event of what happened, in the order in which it did."""
    world = World(choose, collections, deeds)
    for _ in range(steps):
        world.step()
    return world.events
