"""A repo that we fall out of step with is fetched again, once, and a snapshot brings it back."""

import random

import pytest
from redis.asyncio import Redis

from common.chain import place_of
from common.dag_cbor import CBOR_CID
from common.events import decode_job
from common.repo_states import Counts, RepoStates
from tests.tellers import ALICE, BOB, Teller, jobs, rev, root, settle, status, written

OTHER_ROOT = CBOR_CID + b"x" * 32


async def test_an_unknown_repo_is_followed_from_where_it_is_and_nobody_fetches_it(redis: Redis, host: Teller) -> None:
    assert [await host.commit(7), await host.commit(8)] == ["n", "a"]
    assert (await status(redis), await jobs(redis)) == ("f+", [])


async def test_a_gap_queues_the_repo_once_and_its_commits_are_written_all_the_same(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    assert [await host.commit(number) for number in (3, 4, 6, 7)] == ["x", "w", "X", "w"]
    assert await written(redis) == [rev(number) for number in (1, 3, 4, 6, 7)]
    assert (await status(redis), await jobs(redis)) == ("c+", [(ALICE, "broken_chain")])


async def test_a_job_has_the_shape_that_backfillers_read(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    await host.commit(3)
    ((_, fields),) = await redis.xrange("repo_backfill_high")
    job = decode_job(fields[b"repo"])
    assert (job.did, job.rev, job.reason, job.priority) == (ALICE, rev(3), "broken_chain", "high")
    assert set(fields) == {b"repo"}


async def test_a_root_that_nobody_made_is_a_gap_whatever_the_rev_says(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    assert await host.commit(2, prev_data=OTHER_ROOT) == "x"


async def test_a_commit_that_could_not_be_verified_queues_its_repo(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    assert [await host.loss("inversion_failed"), await host.loss(), await host.loss(did=BOB)] == ["x", "X", "x"]
    assert await jobs(redis) == [(ALICE, "inversion_failed"), (BOB, "bad_signature")]
    assert await host.commit(3) == "X"


async def test_a_commit_that_two_hosts_tell_and_nobody_can_verify_queues_its_repo_once(
    redis: Redis, host: Teller, other: Teller
) -> None:
    await host.commit(1)
    assert await host.loss(number=2) == "x"
    assert await settle(redis, 2)
    assert [await other.loss(number=2), await host.commit(3), await other.loss(number=3)] == ["d", "a", "d"]
    await host.set_back(0)
    assert [await host.commit(1), await host.loss(number=4)] == ["r", "r"]
    assert await jobs(redis) == [(ALICE, "bad_signature")]


async def test_a_commit_that_lacks_something_is_written_moves_on_and_queues_its_repo(
    redis: Redis, host: Teller, other: Teller
) -> None:
    await host.commit(1)
    assert [await host.flawed(2), await other.flawed(2), await host.commit(3)] == ["x", "d", "w"]
    assert [await settle(redis, 1), await settle(redis, 2)] == [False, True]
    assert await host.flawed(1, BOB) == "x"
    assert await written(redis) == [rev(1), rev(2), rev(3), rev(1)]
    assert await jobs(redis) == [(ALICE, "missing_block"), (BOB, "missing_block")]
    await settle(redis, 9)
    assert await host.flawed(4) == "o"


async def test_a_sync_is_work_only_where_the_root_is_another(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    assert await host.sync(1) == "d"
    assert await host.sync(2, data=root(1)) == "s"
    assert await host.commit(3, prev_data=root(1)) == "a"
    assert await host.sync(9) == "x"
    assert [await host.sync(9), await host.sync(8)] == ["d", "d"]
    assert (await status(redis), await jobs(redis)) == ("s+", [(ALICE, "sync")])


async def test_one_rev_with_two_roots_is_out_of_step(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    assert await host.sync(1, data=OTHER_ROOT) == "x"
    ((_, fields),) = await redis.xrange("repo_backfill_high")
    assert decode_job(fields[b"repo"]).rev == ""  # who has fetched this rev already is to fetch it again


async def test_a_sync_of_an_unknown_repo_is_followed_and_of_an_empty_one_whole(redis: Redis, host: Teller) -> None:
    assert [await host.sync(5), await host.sync(5, BOB, data=root(0))] == ["n", "n"]
    assert (await status(redis), await status(redis, BOB), await jobs(redis)) == ("f+", "w+", [])


async def test_a_snapshot_brings_a_repo_back_in_step_and_the_next_gap_is_a_new_one(redis: Redis, host: Teller) -> None:
    for number in (1, 3, 4):
        await host.commit(number)
    assert await settle(redis, 3)
    assert await status(redis) == "w+"
    assert [await host.commit(5), await host.commit(7)] == ["a", "x"]
    assert await jobs(redis) == [(ALICE, "broken_chain")] * 2


async def test_a_snapshot_from_before_the_gap_is_not_enough(redis: Redis, host: Teller) -> None:
    for number in (1, 3, 4, 6):
        await host.commit(number)
    assert [await settle(redis, number) for number in (2, 3, 5, 6)] == [False, False, False, True]
    assert await status(redis) == "w+"


async def test_a_snapshot_makes_a_followed_repo_whole(redis: Redis, host: Teller) -> None:
    await host.commit(7)
    await host.commit(8)
    assert [await settle(redis, 6), await settle(redis, 7)] == [False, True]
    assert (await status(redis), await host.commit(9)) == ("w+", "a")


@pytest.mark.parametrize("before", [[], [1], [1, 2]])
async def test_a_snapshot_ahead_of_the_stream_holds_nothing_back(redis: Redis, host: Teller, before: list[int]) -> None:
    """What it has is told live all the same, with its time; what is missing up to it is no gap."""
    for number in before:
        await host.commit(number)
    assert await settle(redis, 5)
    assert [await host.commit(number) for number in (3, 5, 6)] == ["o", "o", "a"]
    assert await written(redis) == [rev(number) for number in (*before, 3, 5, 6)]
    assert (await status(redis), await jobs(redis)) == ("w+", [])


async def test_a_snapshot_of_another_tree_than_the_chain_goes_on_from_is_found_out(redis: Redis, host: Teller) -> None:
    await settle(redis, 5, data=OTHER_ROOT)
    assert await host.commit(6) == "x"


async def test_what_a_snapshot_has_and_a_live_commit_was_is_told_once(
    redis: Redis, host: Teller, other: Teller
) -> None:
    await settle(redis, 5)
    assert [await host.commit(4), await other.commit(4), await other.commit(5), await host.commit(5)] == [*"odod"]


async def test_the_counts_are_those_of_the_repos(redis: Redis, host: Teller) -> None:
    states = RepoStates(redis)
    dids = [ALICE, BOB, "did:web:abc.def", "did:web:" + "x" * 300 + ".test", "did:plc:NOTBASE32"]
    for did in dids:
        await host.commit(1, did)
        await host.commit(3, did)
    await settle(redis, 9, "did:plc:neverseenneverseennevers")
    assert await states.counts() == Counts(repos=6, desynchronised=5)
    for did in dids:
        await settle(redis, 3, did)
    assert await states.counts() == Counts(repos=6, desynchronised=0)
    assert [state and state.rev for state in await states.read([*dids, "did:web:unknown.test"])] == [rev(3)] * 5 + [
        None
    ]


def test_no_two_dids_share_a_field() -> None:
    text = b"did:web:abc.def"  # as long as a did:plc is when packed
    assert place_of(text.decode())[1] == text
    assert int(place_of(text.decode())[0], 16) >= 1 << 18 > int(place_of(ALICE)[0], 16)


@pytest.mark.parametrize("seed", range(40))
async def test_whole_means_that_nothing_is_missing(redis: Redis, seed: int) -> None:
    """Two hosts tell of a repo at their own pace and lose some of it; snapshots come from now and from a while ago."""
    chance = random.Random(seed)
    tellers, at = [Teller(redis, "one.test"), Teller(redis, "two.test")], [0, 0]
    snapshots: list[int] = []
    begins = chance.choice((0, 3))
    while min(at) < 25:
        teller = chance.randrange(2)
        at[teller] += 1
        if chance.random() < 0.8 and at[teller] > begins:
            await tellers[teller].commit(at[teller])
        if chance.random() < 0.2:
            number = max(1, max(at) - chance.choice((0, 0, 2, 6)))
            if await settle(redis, number):
                snapshots.append(number)
        await check_wholeness(redis, max(at), snapshots)


async def check_wholeness(redis: Redis, newest: int, snapshots: list[int]) -> None:
    (state,) = await RepoStates(redis).read([ALICE])
    revs = await written(redis)
    assert len(set(revs)) == len(revs)
    numbers = {number for number in range(1, newest + 1) if rev(number) in revs}
    covered = max(snapshots, default=0)
    last = max(numbers, default=0)
    missing = set(range(covered + 1, last + 1)) - numbers
    if state is not None and state.is_whole:
        assert not missing
    if missing and state is not None and covered:
        assert state.is_desynchronised
    assert (await RepoStates(redis).counts()).desynchronised == (1 if state and state.is_desynchronised else 0)
