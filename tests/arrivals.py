"""What happened in a made-up world (worlds.py), and the batches in which it arrives."""

import re
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from common.events import StreamEvent
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, DAN, POST, uri
from tests.worlds import World


@dataclass(frozen=True, repr=False)
class Arrivals:
    """What happened, in its order, and the batches in which it arrives."""

    events: list[StreamEvent]
    batches: list[list[StreamEvent]]
    mutes: frozenset[tuple[str, str]]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The batches in a form that a person can read, for Hypothesis to show."""
        printer.text(str(self))

    def __str__(self) -> str:
        lines = [f"muted: {sorted(self.mutes)}"]
        for batch in self.batches:
            lines += ["batch", *map(_line, batch)]
        return shortened("\n".join(lines))


def _line(event: Any) -> str:
    kind, commit = type(event).__name__.removesuffix("Event").lower(), event.rev[-4:-2]
    where, what = getattr(event, "uri", event.did), bytes(getattr(event, "record", b"")).decode()
    return f"  {commit} {event.time[14:19]} {kind} {where} {what}"


def shortened(text: str) -> str:
    """Without what is the same everywhere."""
    for long in ("did:plc:", "app.bsky.", "2025-03-01T12:", ".000Z"):
        text = text.replace(long, "")
    return re.sub(r"(alice|bob|carol|dan)a{10,}", r"\1", re.sub(r',?"cid": ?"[^"]*"', "", text))


@st.composite
def arrivals(draw: st.DrawFn, *, in_order: bool, steps: int = 24) -> Arrivals:
    people = (ALICE, BOB, CAROL, DAN)[: draw(st.integers(2, 4))]
    gated = draw(st.sampled_from([True, True, False]))
    threads = st.tuples(st.sampled_from(people), st.sampled_from(people).map(lambda who: uri(who, POST, "a")))
    muted = draw(st.one_of(st.just(frozenset()), st.just(frozenset()), st.frozensets(threads, max_size=2)))
    world = World(draw, people, gated)
    world.begin()
    for _ in range(draw(st.integers(steps * 2 // 3, steps))):
        world.step()
    return Arrivals(world.events, draw(_batches(world.events, in_order=in_order)), muted)


@st.composite
def _batches(draw: st.DrawFn, events: list[StreamEvent], *, in_order: bool) -> list[list[StreamEvent]]:
    """Cut anywhere, and some of it twice."""
    order = list(events if in_order else draw(st.one_of(st.just(events[::-1]), st.permutations(events))))
    places = st.integers(0, len(order) - 1)
    for one, other in draw(st.lists(st.tuples(places, places), max_size=3)) if order else []:
        order.insert(max(one, other) + 1, order[min(one, other)])
    return make.cut(order, draw(st.lists(st.integers(1, 8), max_size=10)))
