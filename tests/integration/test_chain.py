"""What several hosts tell of a repo is written once, and a repo that we fall out of step with is fetched again."""

import asyncio
import random
from typing import Any

import pytest
from redis.asyncio import Redis

from common.chain import place_of
from common.dag_cbor import CBOR_CID
from common.events import decode_job
from common.redis_connection import open_redis
from common.repo_states import Counts, RepoStates
from common.streams import Fenced
from tests.proxy import Proxy
from tests.tellers import ALICE, BOB, Teller, events, jobs, rev, root, settle, status, written
from tests.waiting import until

OTHER_ROOT = CBOR_CID + b"x" * 32
EARLIER, LATER = "2026-11-20T22:33:50.655Z", "2026-11-20T22:33:50.657Z"


@pytest.fixture
def host(redis: Redis) -> Teller:
    return Teller(redis)


@pytest.fixture
def other(redis: Redis) -> Teller:
    """Another relay, whose numbers are others."""
    return Teller(redis, "two.test", seq=9000)


# once, whoever tells it


async def test_commits_that_fit_onto_each_other_are_written(redis: Redis, host: Teller) -> None:
    assert [await host.commit(number) for number in (1, 2, 3)] == ["n", "a", "a"]
    assert await written(redis) == [rev(1), rev(2), rev(3)]
    assert (await status(redis), await jobs(redis)) == ("w+", [])


async def test_a_commit_that_two_hosts_tell_is_written_once(redis: Redis, host: Teller, other: Teller) -> None:
    await host.commit(1)
    assert [await other.commit(1), await other.commit(2), await host.commit(2)] == ["d", "a", "d"]
    assert await written(redis) == [rev(1), rev(2)]
    assert [event["record"]["host"] for event in await events(redis)] == ["one.test", "two.test"]


async def test_the_commits_of_one_batch_are_judged_one_after_the_other(redis: Redis, host: Teller) -> None:
    assert await host.commits(1, 2, 2, 4, 3) == "nadxd"
    assert await written(redis) == [rev(1), rev(2), rev(4)]


async def test_a_commit_without_operations_fits_by_its_root(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    assert await host.commit(2, data=root(1), prev_data=root(1)) == "a"
    assert await host.commit(3, prev_data=root(1)) == "a"


async def test_commits_of_old_servers_fit_by_their_rev(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    assert await host.commit(2, prev_data=None) == "a"
    assert await host.commit(4, prev_data=None) == "x"


async def test_accounts_and_identities_are_told_once(redis: Redis, host: Teller, other: Teller) -> None:
    for who, verdict in ((host, "t"), (other, "d")):
        assert await who.identity(handle="alice.test") == verdict
        assert await who.account(active=True) == verdict
        assert await who.identity(LATER, handle="alice.test") == verdict
    assert [event["type"] for event in await events(redis)] == ["identity", "account", "identity"]


async def test_what_another_host_tells_too_late_changes_nothing(redis: Redis, host: Teller, other: Teller) -> None:
    assert await host.account(active=False, status="deactivated") == "t"
    assert await host.account(active=True, time=LATER) == "t"
    assert await other.account(active=False, status="deactivated") == "d"
    assert await status(redis) == "n+"


async def test_one_host_is_believed_whatever_the_clocks_of_its_servers_say(redis: Redis, host: Teller) -> None:
    await host.account(active=False, status="deactivated", time=LATER)
    assert await host.account(active=True, time=EARLIER) == "t"
    assert await status(redis) == "n+"


async def test_two_that_say_different_things_at_one_time_are_both_heard(host: Teller, other: Teller) -> None:
    assert await host.account(active=True) == "t"
    assert await other.account(active=False, status="takendown") == "t"


# falling out of step


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


# and back


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


# accounts that are away


async def test_commits_of_an_account_that_is_not_active_are_dropped_and_looked_into_once(
    redis: Redis, host: Teller
) -> None:
    await host.commit(1)
    await host.account(active=False, status="suspended")
    assert [await host.commit(2), await host.commit(3), await host.sync(4), await host.loss()] == [*"jiii"]
    assert await written(redis) == [rev(1)]
    assert await jobs(redis) == [(ALICE, "inactive")]


async def test_an_account_that_comes_back_is_fetched_if_it_was_busy_meanwhile(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    await host.account(active=False, status="deactivated")
    await host.commit(2)
    assert await host.account(active=True, time=LATER) == "x"
    assert await host.commit(3) == "X"
    assert await jobs(redis) == [(ALICE, "inactive"), (ALICE, "reactivated")]


async def test_an_account_that_comes_back_as_it_was_is_compared_by_its_chain(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    await host.account(active=False, status="deactivated")
    assert [await host.account(active=True, time=LATER), await host.sync(2, data=root(1))] == ["t", "s"]
    assert (await status(redis), await jobs(redis)) == ("w+", [])


async def test_who_was_out_of_step_when_it_left_is_fetched_when_it_is_back(redis: Redis, host: Teller) -> None:
    """The job of then found nobody."""
    await host.commit(1)
    await host.commit(3)
    await host.account(active=False, status="deactivated")
    assert await host.account(active=True, time=LATER) == "x"
    assert await jobs(redis) == [(ALICE, "broken_chain"), (ALICE, "reactivated")]
    assert await RepoStates(redis).counts() == Counts(repos=1, desynchronised=1)


async def test_an_account_that_is_served_is_active_whatever_was_said(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    await host.account(active=False, status="deactivated")
    await host.commit(2)
    assert await settle(redis, 3)
    assert [await host.commit(3), await host.commit(4)] == ["o", "a"]


@pytest.mark.parametrize(("status_said", "verdict"), [("throttled", "t"), ("desynchronized", "x")])
@pytest.mark.parametrize("active", [True, False])
async def test_the_senders_own_trouble_hides_nobody(
    redis: Redis, host: Teller, status_said: str, verdict: str, active: bool
) -> None:
    await host.commit(1)
    assert await host.account(active=active, status=status_said) == verdict
    assert await host.commit(2) in ("a", "w")
    assert len(await jobs(redis)) == (verdict == "x")


# one step, whatever happens


async def test_a_lost_reply_gives_the_same_verdicts_and_writes_nothing_twice(redis: Redis, redis_url: str) -> None:
    async with Proxy(redis_url) as proxy, open_redis(proxy.url) as shaky:
        host = Teller(shaky)
        await host.commit(1)
        proxy.lose_reply_to(b"EVALSHA")
        assert await host.commits(1, 2, 4) == "dax"
        assert proxy.cuts == 1
    assert await written(redis) == [rev(1), rev(2), rev(4)]
    assert await jobs(redis) == [(ALICE, "broken_chain")]


async def test_a_second_reader_of_one_host_is_fenced_and_moves_nothing(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    late = Teller(redis, seq=7)
    with pytest.raises(Fenced):
        await late.commit(2)
    assert (await written(redis), await status(redis)) == ([rev(1)], "w+")


async def test_a_second_reader_whose_batch_ends_where_the_others_did_is_fenced(redis: Redis, host: Teller) -> None:
    late = Teller(redis)
    await host.commit(1)
    await host.commit(2)
    with pytest.raises(Fenced):
        await late.commits(1, 2)
    assert (await written(redis), await status(redis)) == ([rev(1), rev(2)], "w+")


async def test_a_cursor_that_is_set_back_writes_again_and_moves_nothing(redis: Redis, host: Teller) -> None:
    await host.identity()
    for number in (1, 2, 3):
        await host.commit(number)
    await host.set_back(0)
    assert [await host.identity(), await host.commit(1), await host.commit(2), await host.commit(3)] == [*"rrrr"]
    assert await host.commit(4) == "a"
    assert await written(redis) == [rev(number) for number in (1, 2, 3, 1, 2, 3, 4)]


async def test_a_cursor_that_is_deleted_begins_anew_and_writes_nothing_twice(redis: Redis, host: Teller) -> None:
    """As after a host has begun to count anew: its numbers say nothing of what we have."""
    host.seq = 100
    await host.commit(1)
    await redis.delete(host.cursor_key)
    host.seq, host.cursor = 0, ""
    assert [await host.commit(1), await host.commit(2)] == ["d", "a"]
    assert await host.commit(2) == "d"


async def test_a_full_redis_takes_all_of_it_or_nothing(own_redis: Redis) -> None:
    host = Teller(own_redis)
    await own_redis.config_set("maxmemory", 1)
    task = asyncio.create_task(host.commits(1, 3))
    await until(lambda: refusals(own_redis))
    assert await own_redis.keys() == []
    await own_redis.config_set("maxmemory", 0)
    assert await task == "nx"
    assert (len(await written(own_redis)), len(await jobs(own_redis))) == (2, 1)


async def refusals(redis: Redis) -> int:
    errors: dict[str, Any] = await redis.info("errorstats")
    return int(errors.get("errorstat_OOM", {}).get("count", 0))


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
