"""What may happen in a made-up world (worlds.py), so that the tables follow from it.

In the order in which it happened the indexer is to get everything right, and in any order nearly everything: this says
what is left out.
"""

from collections import Counter
from dataclasses import dataclass, field

from common.events import CreateEvent, RecordEvent, StreamEvent, UpdateEvent
from tests.factories import FOLLOW, LIST_ITEM, POST, REPOST, Json, uri
from tests.world_records import POST_GATE, THREAD_GATE, thread_of

GATES = (THREAD_GATE, POST_GATE)
LOOKED_AT = (POST, THREAD_GATE, POST_GATE, FOLLOW, LIST_ITEM)
Key = tuple[str, str, str]  # who, collection, record key


@dataclass
class Limits:
    """What happened so far. `gated`: there are threadgates. `muted`: who has muted which thread (its root).

    A post with the key a begins a thread, b to f are replies, and z is anything, for nobody replies to it.
    """

    in_order: bool
    people: tuple[str, ...]
    gated: bool
    muted: frozenset[tuple[str, str]]
    events: list[StreamEvent] = field(default_factory=list)
    live: dict[Key, CreateEvent | UpdateEvent] = field(default_factory=dict)
    versions: Counter[Key] = field(default_factory=Counter)
    places: dict[Key, Json | None] = field(default_factory=dict)
    parents: dict[tuple[Key, str], str] = field(default_factory=dict)

    def may_write(self, key: Key) -> bool:
        _, collection, _ = key
        again = self.versions[key] > 0
        if collection == THREAD_GATE and not self.gated:
            return False
        if self.in_order or not self.is_looked_at(key):
            return not (self.muted and collection == POST and again)
        return not (self.muted and again)

    def may_end(self, key: Key) -> bool:
        who, collection, rkey = key
        if self.muted and collection == POST:
            return False
        if self.in_order or not self.is_looked_at(key):
            return True
        # who quoted a post that is gone is not found any more when its gate comes late
        return collection != POST or (who, POST_GATE, rkey) not in self.versions

    def may_stand(self, key: Key, place: Json | None) -> bool:
        """Of a place in a thread that a reply has left, nobody reads below which of two posts it was."""
        if place is None:
            return True
        parent, root = place["parent"]["uri"], place["root"]["uri"]
        # who is in a thread, and not below its root, is not found any more when its gate comes late
        if self.gated and not self.in_order and root not in (parent, self._thread_of(parent)):
            return False
        return self.parents.setdefault((key, root), parent) == parent

    def _thread_of(self, parent: str) -> str:
        return next((thread_of(place, parent) for key, place in self.places.items() if uri(*key) == parent), "")

    def may_be_fetched(self, who: str) -> bool:
        """What goes with a post that a snapshot lacks does not come back when it turns out to be older than its end."""
        return self.in_order or not any(
            self._is_pointed_at_since_its_end(uri(*key)) for key in self.versions if key[:2] == (who, POST)
        )

    def _is_pointed_at_since_its_end(self, post: str) -> bool:
        about = [
            number for number, event in enumerate(self.events) if isinstance(event, RecordEvent) and event.uri == post
        ]
        last = self.events[about[-1]]
        if isinstance(last, CreateEvent | UpdateEvent) and b'"createdAt"' in bytes(last.record):
            return False
        since = (event for event in self.events[about[-1] :] if isinstance(event, CreateEvent | UpdateEvent))
        return any(post.encode() in bytes(event.record) for event in since if event.collection in (POST, REPOST))

    def is_looked_at(self, key: Key) -> bool:
        return key[1] in LOOKED_AT and (self.gated or key[1] not in (FOLLOW, LIST_ITEM))
