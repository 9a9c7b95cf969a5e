"""Who joined by whose starter pack is told once: an edit of a profile is no news, whatever comes first."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from common.events import StreamEvent
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, PROFILE, Json, moment, snapshot, uri
from tests.indexing import Index

PACK, OTHER = uri(BOB, "app.bsky.graph.starterpack", "s"), uri(CAROL, "app.bsky.graph.starterpack", "s")


def joined(name: str, pack: str = PACK, **fields: Any) -> Json:
    return make.profile(name, joinedViaStarterPack=make.ref(pack), **fields)


async def told(index: Index) -> list[tuple[str, str, str]]:
    """(about which pack, by which version, when)"""
    rows = await index.rows("notification", "did", "author", "recordUri", "reason")
    assert set(rows) <= {(who, ALICE, uri(ALICE, PROFILE, "self"), "starterpack-joined") for who in (ALICE, BOB, CAROL)}
    return await index.rows("notification", "reasonSubject", "recordCid", "sortAt")


FIRST = (PACK, make.cid(joined("one")), moment(1))
VERSIONS: Sequence[StreamEvent] = (
    make.create(ALICE, "self", joined("one"), 1),
    make.update(ALICE, "self", joined("two"), 2),
    make.update(ALICE, "self", make.profile("three"), 3),
    make.delete(ALICE, PROFILE, "self", 4),
    make.create(ALICE, "self", joined("five"), 5),
)


@pytest.mark.parametrize("sizes", [(1,) * 5, (5,), (2, 3), (3, 2)])
async def test_the_first_version_tells_and_no_other(sizes: Sequence[int], index: Index) -> None:
    for order in itertools.permutations(VERSIONS) if sizes == (1,) * 5 else [VERSIONS, VERSIONS[::-1]]:
        await index.pool.execute("DELETE FROM bsky.notification; DELETE FROM bsky.record; DELETE FROM bsky.profile")
        await index.pool.execute("DELETE FROM sluice_bsky.tombstone")
        for batch in make.cut(order, sizes):
            await index.apply(*batch)
        assert await told(index) == [FIRST]


async def test_a_replay_tells_nothing(index: Index) -> None:
    await index.apply_each(VERSIONS)
    before = await index.everything()
    await index.apply_each([*VERSIONS, *VERSIONS[::-1]])
    assert await index.everything() == before


async def test_each_pack_is_told_of(index: Index) -> None:
    await index.apply(VERSIONS[0], make.update(ALICE, "self", joined("other", OTHER), 2))
    await index.apply(make.update(ALICE, "self", joined("own", uri(ALICE, "app.bsky.graph.starterpack", "s")), 3))
    assert [(pack.split("/")[2], time) for pack, _, time in await told(index)] == [
        (ALICE, moment(3)),
        (BOB, moment(1)),
        (CAROL, moment(2)),
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_a_live_event_dates_what_a_backfill_told(order: Sequence[int], index: Index) -> None:
    one, two = (joined(name, createdAt=moment(0.5)) for name in ("one", "two"))
    arriving = (
        [make.create(ALICE, "self", one, 1)],
        [make.update(ALICE, "self", two, 2)],
        snapshot(ALICE, {(PROFILE, "self"): two}, 2),
    )
    for number in order:
        await index.apply(*arriving[number])
    assert await told(index) == [(PACK, make.cid(one), moment(1))]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_of_two_backfills_it_does_not_matter_which_came_first(order: Sequence[int], index: Index) -> None:
    one, two = (joined(name, createdAt=moment(0.5)) for name in ("one", "two"))
    snapshots = [snapshot(ALICE, {(PROFILE, "self"): value}, at) for at, value in ((1, one), (2, two))]
    for number in order:
        await index.apply(*snapshots[number][:1])  # what a whole one deletes is another matter
    assert await told(index) == [(PACK, min(make.cid(one), make.cid(two)), moment(0.5))]


async def test_only_the_profile_itself_tells(index: Index) -> None:
    await index.apply(make.create(ALICE, "other", joined("one"), 1))
    assert await told(index) == []
