"""What the ingester shows of repos out of step, and of the PDSes whose repos are still to be listed."""

import asyncio

import pytest
from redis.asyncio import Redis

from common.chain import KEY
from common.repo_states import RepoStates
from ingester.metrics import QUEUED_FOR, count_judged
from ingester.pds_listing import HOSTS_DUE, PdsListings
from ingester.repo_gauges import RepoGauges
from ingester.repo_listing import RepoListing
from tests.samples import sample
from tests.waiting import until


async def test_repos_known_and_out_of_step_are_those_that_redis_counts(redis: Redis) -> None:
    await redis.hset(KEY, mapping={"repos": 7, "desynchronised": 3})
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(RepoGauges(RepoStates(redis)).run(stop))
        await until(lambda: sample("ingester_repos_desynchronised") == 3)
        stop.set()
    assert sample("ingester_repos_known") == 7


async def test_hosts_that_are_due_are_counted_before_one_is_taken(redis: Redis) -> None:
    await redis.zadd(HOSTS_DUE, {"a.example.com": 1, "b.example.com": 1, "later.example.com": 1 << 40})
    reached = asyncio.Event()

    def listing_of(host: str) -> RepoListing:
        reached.set()
        raise ZeroDivisionError("one is taken: enough")

    service = PdsListings(redis, listing_of, at_once=1, repeat_seconds=60)
    with pytest.raises(ExceptionGroup):
        await service.run(asyncio.Event())
    assert reached.is_set()
    assert sample("ingester_pds_hosts_due") == 2


def test_a_repo_that_is_queued_again_is_counted_by_its_reason() -> None:
    reason = sorted(QUEUED_FOR)[0]
    before = sample("ingester_resyncs_queued_total", reason=reason)
    count_judged({}, {reason: 2})
    assert sample("ingester_resyncs_queued_total", reason=reason) == before + 2
