"""Small, nasty histories of a few people: everything that one can do to records that others look at."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st

from common.events import CreateEvent, StreamEvent, UpdateEvent
from common.syntax import tid_at
from tests import factories as make
from tests import world_records as records
from tests.factories import BLOCK, FOLLOW, LIKE, LIST, LIST_ITEM, NOON, POST, REPOST, Json, uri
from tests.world_records import HANDLE_POST, LIST_BLOCK, POST_GATE, THREAD_GATE

Key = tuple[str, str, str]  # who, collection, record key
GATES = (THREAD_GATE, POST_GATE)
LOOKED_AT = (POST, THREAD_GATE, POST_GATE, FOLLOW, LIST_ITEM)

KEYS = {POST: "abcdefz", LIST: "lm"}
WRITTEN = (
    *[POST] * 12,
    *[THREAD_GATE, POST_GATE, LIKE, REPOST, FOLLOW, LIST_ITEM] * 2,
    *(BLOCK, LIST, LIST_BLOCK),
)
REPEATED = (LIKE, REPOST, FOLLOW, BLOCK, LIST_ITEM, LIST_BLOCK)


@dataclass
class World:
    """People who write, edit and delete, one after the other or at the same moment.

    `gated`: there are threadgates. A post with the key a begins a thread, b to f are replies, and z is anything, for
    nobody replies to it. `spent`: what ended unheard but for one snapshot, which is the last of its repo, and nobody
    uses its key again.
    """

    draw: st.DrawFn
    people: tuple[str, ...]
    gated: bool
    events: list[StreamEvent] = field(default_factory=list)
    live: dict[Key, CreateEvent | UpdateEvent] = field(default_factory=dict)
    versions: Counter[Key] = field(default_factory=Counter)
    places: dict[Key, Json | None] = field(default_factory=dict)
    spent: set[Key] = field(default_factory=set)
    clock: int = 1
    serial: int = 0

    def choose(self, options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def begin(self) -> None:
        """Threads to reply in, and gates to respect."""
        for who in self.people:
            for collection in self.choose([(), (POST,), (POST, *GATES), (*GATES, POST)]):
                self._write(who, (who, collection, "a"))

    def step(self) -> None:
        self.clock += self.choose([0, 1])
        who = self.choose(self.people)
        match self.choose(
            ["write"] * 8 + ["commit", "repeat", "repeat", "edit", "edit", "end", "end", "end", *["snapshot"] * 3]
        ):
            case "write":
                self._write(who, self._new_key(who))
            case "commit":
                self._write(who, self._new_key(who))
                self._write(who, self._new_key(who), same_commit=True)
            case "repeat":
                self._repeat(who)
            case "snapshot":
                self._snapshot(who)
            case deed:
                self._change(who, deed)

    def _new_key(self, who: str) -> Key:
        collection = self.choose(WRITTEN)
        keys = KEYS.get(collection, "abc")
        if collection == POST and (who, POST, "a") not in self.live:
            keys = "aaab"
        if collection in GATES:
            keys = "aaaab"
        free = [rkey for rkey in keys if (who, collection, rkey) not in self.live]
        return who, collection, self.choose(free or keys)

    def _repeat(self, who: str) -> None:
        """The same said again, in another record."""
        said = sorted(key for key in self.live if key[0] == who and key[1] in REPEATED)
        if not said:
            return
        first = self.choose(said)
        free = [key for rkey in "abc" if (key := (who, first[1], rkey)) not in self.versions]
        if free:
            value = msgspec.json.decode(self.live[first].record)
            self._put(self.choose(free), value | {"version": len(self.events)})

    def _change(self, who: str, deed: str) -> None:
        mine = sorted(key for key in self.live if key[0] == who)
        if not mine:
            return
        key = self.choose(mine)
        self.clock += 1  # whether a reply came before or after a change must not be a question
        if deed == "edit":
            self._write(who, key)
        else:
            self._end(key, self.choose(["delete", "delete", "break"]))
        self.clock += 1

    def _write(self, who: str, key: Key, *, same_commit: bool = False) -> None:
        if key in self.spent or (key[1] == THREAD_GATE and not self.gated):
            return
        if self.versions[key] and key not in self.live:
            self.clock += 1
        value = self._value(key) | {"version": len(self.events)}
        value["createdAt"] = make.moment(self.clock + self.choose([0, 0, -3, 5]))
        is_bad = not self.versions[key] and not self.is_looked_at(key) and self.choose([False] * 5 + [True])
        self._put(key, records.broken(value) if is_bad else value, same_commit=same_commit)

    def _put(self, key: Key, value: Json, *, same_commit: bool = False) -> None:
        who, _, rkey = key
        happened = (make.update if key in self.live else make.create)(
            who, rkey, value, self.clock, **self._commit(who, same_commit=same_commit, subject=uri(*key))
        )
        self.live[key] = happened
        self.versions[key] += 1
        self.events.append(happened)

    def _end(self, key: Key, how: str) -> None:
        who, collection, rkey = key
        if how == "break":
            self._put(key, records.broken(msgspec.json.decode(self.live[key].record)))
            return
        del self.live[key]
        self.versions[key] += 1
        self.events.append(make.delete(who, collection, rkey, self.clock, **self._commit(who)))

    def _commit(self, who: str, *, same_commit: bool = False, subject: str = "") -> Json:
        """A rev and a CID of its own; or those of the commit before, if that was of the same person and moment, and not
        of the same record: a commit has one operation for each.
        """
        last = self.events[-1] if self.events else None
        if same_commit and isinstance(last, CreateEvent | UpdateEvent) and last.did == who and last.uri != subject:
            return {"rev": last.rev, "commit": last.commit, "seq": last.seq}
        self.serial += 1
        rev = tid_at((NOON + self.clock) * 1_000_000 + self.serial)
        return {"rev": rev, "commit": make.cid(f"commit {self.serial}"), "seq": self.serial}

    def _value(self, key: Key) -> Json:
        who, collection, rkey = key
        if collection == POST:
            return self._post(key)
        if collection in (LIKE, REPOST):
            return records.opinion(self.choose, collection, self.people, self._subjects())
        if collection in GATES:
            replies = [uri(person, POST, self.choose("bc")) for person in self.people]
            return records.gate(self.choose, who, collection, rkey, replies)
        return records.tie(self.choose, who, collection, self.people)

    def _subjects(self) -> list[str]:
        """Posts that are there, that were, and that will or will not be."""
        there = [uri(*key) for key in self.live if key[1] == POST]
        return [*there, *(uri(who, POST, rkey) for who in self.people for rkey in "ab"), HANDLE_POST]

    def _post(self, key: Key) -> Json:
        rkey = key[2]
        if key not in self.places or rkey == "z" or self.choose([False, False, True]):
            self.places[key] = None if rkey == "a" else self._place(rkey)
        mentioned = self.draw(st.lists(st.sampled_from(self.people), max_size=2))
        quotable = [subject for subject in self._subjects() if subject != uri(*key)]
        return records.post(self.choose, quotable, mentioned, self.places.get(key))

    def _place(self, rkey: str) -> Json | None:
        """Below another post: often the newest one; now and then below what is not there, or of another thread."""
        above = [key for key in self.places if key in self.live and key[2] != "z"]
        if rkey == "z":
            above = [key for key in above if key[2] == "a"]
        if rkey != "z" and self.choose([False, False, False, True]):
            unknown = uri(self.choose(self.people), POST, "unknown")
            parent = self.choose([unknown, *(uri(*key) for key in self.places if key[2] != "z")])
            root = self.choose([parent, uri(self.choose(self.people), POST, "a"), HANDLE_POST])
        elif above:
            key = self.choose([above[-1], above[-1], *above])
            parent = uri(*key)
            root = records.thread_of(self.places[key], parent)
        else:
            return None
        return {"root": make.ref(root), "parent": make.ref(parent)}

    def _delete_before_snapshot(self, key: Key) -> None:
        """What a snapshot lacks must not come back with an event that is late."""
        self.clock += 1
        self._end(key, "delete")

    def _snapshot(self, who: str) -> None:
        """The repo as it is now. It does not say when its records were written."""
        if any(key[0] == who for key in self.spent):
            return
        if fleeting := sorted(key for key in self.live if key[0] == who and not self.is_looked_at(key)):
            self._delete_before_snapshot(self.choose(fleeting))
        self.clock += 1
        for key in sorted(key for key in self.live if key[0] == who):
            if self.choose([False] * 9 + [True]):
                del self.live[key]
                self.spent.add(key)
        mine = {key[1:]: event for key, event in self.live.items() if key[0] == who}
        if not mine:
            return
        self.clock += 1
        values = {key: msgspec.json.decode(event.record) for key, event in mine.items()}
        commit = {name: value for name, value in self._commit(who).items() if name != "seq"}
        for part in make.snapshot(who, values, self.clock):
            self.events.append(msgspec.structs.replace(part, **commit))
        self.clock += 1

    def is_looked_at(self, key: Key) -> bool:
        """Whether others are judged by it."""
        return key[1] in LOOKED_AT and (self.gated or key[1] not in (FOLLOW, LIST_ITEM))
