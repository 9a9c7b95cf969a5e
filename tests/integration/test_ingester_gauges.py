"""What the ingester shows of repos out of step."""

import asyncio

from redis.asyncio import Redis

from common.chain import KEY
from common.repo_states import RepoStates
from ingester.metrics import QUEUED_FOR, count_judged
from ingester.repo_gauges import RepoGauges
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


def test_a_repo_that_is_queued_again_is_counted_by_its_reason() -> None:
    reason = sorted(QUEUED_FOR)[0]
    before = sample("ingester_resyncs_queued_total", reason=reason)
    count_judged({}, {reason: 2})
    assert sample("ingester_resyncs_queued_total", reason=reason) == before + 2
