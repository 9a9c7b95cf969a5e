"""What may happen in a made-up world (worlds.py), so that the tables follow from it.

In the order in which it happened the indexer is to get nearly everything right. In any order it is to get right what it
can remember; of what it cannot, this says what is left out.
"""

from collections import Counter
from dataclasses import dataclass, field

from common.events import CreateEvent, StreamEvent, UpdateEvent
from tests.factories import FOLLOW, LIST_ITEM, POST, Json, uri
from tests.world_records import POST_GATE, THREAD_GATE

GATES = (THREAD_GATE, POST_GATE)
LOOKED_AT = (POST, THREAD_GATE, POST_GATE, FOLLOW, LIST_ITEM)
Key = tuple[str, str, str]  # who, collection, record key


@dataclass
class Limits:
    """What happened so far. `gated`: there are threadgates. `muted`: who has muted which thread (its root).

    `ended`: what was deleted, or edited into what holds nothing. `closed`: since something that others look at ended,
    nothing more is written that looks at it. A post with the key a begins a thread, b to f are replies, and z is
    anything, for nobody replies to it.
    """

    in_order: bool
    people: tuple[str, ...]
    gated: bool
    muted: frozenset[tuple[str, str]]
    events: list[StreamEvent] = field(default_factory=list)
    live: dict[Key, CreateEvent | UpdateEvent] = field(default_factory=dict)
    versions: Counter[Key] = field(default_factory=Counter)
    quoted: dict[Key, set[str]] = field(default_factory=dict)
    ended: set[Key] = field(default_factory=set)
    places: dict[Key, Json | None] = field(default_factory=dict)
    closed: bool = False

    def may_write(self, key: Key) -> bool:
        _, collection, rkey = key
        again = self.versions[key] > 0
        if collection == THREAD_GATE and not self.gated:
            return False
        if again and (self._is_tangled(key) or self._held_up_others(key)):
            return False
        if self.in_order or not self.is_looked_at(key):
            return not (self.muted and collection == POST and again)
        if self.closed or (self.muted and again):
            return False
        # neither a gate's earlier rules nor where a post stood before are remembered in every order
        return not again or (collection == POST and (rkey == "z" or (rkey == "a" and key in self.live)))

    def may_end(self, key: Key) -> bool:
        who, collection, rkey = key
        if self._is_tangled(key) or (self.muted and collection == POST):
            return False
        if collection == POST and rkey == "a" and self._admits_the_mentioned(who, rkey):
            return False
        if self.in_order or not self.is_looked_at(key):
            return True
        if key in self.ended:  # what broke its lexicon is gone by then; of two deletions only the last is remembered
            return False
        if collection != POST or (who, POST_GATE, rkey) in self.versions:
            return False
        return not self._has_replies(key) or rkey == "a"

    def is_looked_at(self, key: Key) -> bool:
        return key[1] in LOOKED_AT and (self.gated or key[1] not in (FOLLOW, LIST_ITEM))

    def _is_tangled(self, key: Key) -> bool:
        """A quote of a deleted post that is deleted or edited: whether it still counts nobody sees."""
        gone = {uri(*other) for other in self.ended if other[1] == POST}
        quoting = [other for other, subjects in self.quoted.items() if uri(*key) in subjects]
        return bool(self.quoted.get(key, set()) & gone) or any(self.versions[other] > 1 for other in quoting)

    def _admits_the_mentioned(self, who: str, rkey: str) -> bool:
        """Whom a deleted post mentioned is not remembered."""
        return (who, THREAD_GATE, rkey) in self.versions

    def _held_up_others(self, key: Key) -> bool:
        """A reply from before is judged by the post as it is now: where that stood earlier is not remembered."""
        return key[1] == POST and self._has_replies(key) and (key[2] != "a" or key not in self.live)

    def _has_replies(self, key: Key) -> bool:
        return any(place and place["parent"]["uri"] == uri(*key) for place in self.places.values())
