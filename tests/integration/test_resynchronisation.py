"""From a gap in a repo's chain to a snapshot that closes it: ingester's script, job, backfiller, chain."""

import pytest
from redis.asyncio import Redis

from common.repo_states import Counts, RepoStates
from common.syntax import tid_at, tid_microseconds
from sluice.network import RecordedNetwork
from sluice.recording import RecordedRepo
from tests.backfilling import DLQ, backfiller, environment, output, work_off
from tests.recorded_network import StartNetwork
from tests.samples import sample
from tests.tellers import Teller, jobs, root, status
from tests.waiting import until


@pytest.fixture
async def served(network: StartNetwork) -> RecordedNetwork:
    return await network("basic")


@pytest.fixture
def repo(served: RecordedNetwork) -> RecordedRepo:
    return next(repo for repo in served.recording.repos if repo.active)


def around(rev: str, microseconds: int) -> str:
    return tid_at(tid_microseconds(rev) + microseconds)


async def test_a_repo_that_fell_out_of_step_is_fetched_and_in_step_again(
    redis: Redis, redis_url: str, served: RecordedNetwork, repo: RecordedRepo
) -> None:
    host = Teller(redis)
    await host.commit(1, repo.did, rev=around(repo.rev, -9), since=None)
    assert await host.commit(5, repo.did, rev=around(repo.rev, -5)) == "x"
    await work_off(redis, environment(redis_url, served.url))
    assert (await output(redis))[repo.did].whole
    assert await status(redis, repo.did) == "W+"
    assert await RepoStates(redis).counts() == Counts(repos=1, desynchronised=0)
    assert await host.commit(6, repo.did, rev=repo.rev) == "o"


async def test_the_chain_goes_on_from_the_root_of_the_snapshot(
    redis: Redis, redis_url: str, served: RecordedNetwork, repo: RecordedRepo
) -> None:
    host = Teller(redis)
    await host.loss("bad_signature", repo.did)
    await work_off(redis, environment(redis_url, served.url))
    (known,) = await RepoStates(redis).read([repo.did])
    assert known is not None
    assert (known.rev, known.is_whole) == (repo.rev, True)
    head = b"\x01\x71\x12\x20" + known.data + bytes(16)
    assert await host.commit(2, repo.did, rev=around(repo.rev, 5), since=repo.rev, prev_data=head) == "a"
    assert await host.commit(4, repo.did, rev=around(repo.rev, 9), prev_data=root(9)) == "x"


async def test_a_host_that_is_behind_its_own_commits_is_asked_again_and_then_given_up(
    redis: Redis, redis_url: str, served: RecordedNetwork, repo: RecordedRepo
) -> None:
    host, before = Teller(redis), sample("backfiller_failures_by_reason_total", reason="stale_repo")
    await host.commit(1, repo.did, rev=around(repo.rev, -5))
    await host.commit(5, repo.did, rev=around(repo.rev, 5))
    assert await jobs(redis) == [(repo.did, "broken_chain")]
    async with backfiller(environment(redis_url, served.url, BACKFILLER_MAX_RETRIES="2")):
        await until(lambda: redis.xlen(DLQ))
    ((_, letter),) = await redis.xrange(DLQ)
    assert letter[b"error"] == b"stale_repo"
    assert sample("backfiller_failures_by_reason_total", reason="stale_repo") == before + 2
    assert await status(redis, repo.did) == "c+"
    assert await RepoStates(redis).counts() == Counts(repos=1, desynchronised=1)
