"""Accounts and identities are told once, and what an account that is away sends is not written."""

import pytest
from redis.asyncio import Redis

from common.repo_states import Counts, RepoStates
from tests.tellers import ALICE, EARLIER, LATER, Teller, events, jobs, rev, root, settle, status, written


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
