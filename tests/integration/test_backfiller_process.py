"""The backfiller as a process that is killed, told to stop, or told nonsense."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from sluice.server import free_port
from tests.backfilling import (
    DLQ,
    INPUT,
    OUTPUT,
    PARKED,
    StartNetwork,
    enqueue,
    environment,
    idle,
    leaves,
    ours,
    output,
)
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def process(environ: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "backfiller"),
        env={**os.environ, "BACKFILLER_METRICS_PORT": str(free_port()), **environ},
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def test_after_kill_9_every_repo_is_done(network: StartNetwork, redis: Redis, redis_url: str) -> None:
    """Killed twice: with the output full in the middle of some repos, and with downloads under way."""
    served = await network("load-tiny")
    dids = [repo.did for repo in served.recording.repos if repo.active]
    await enqueue(redis, dids)
    settings = environment(redis_url, served.url, BACKFILLER_CONCURRENCY="4")
    mark = 300

    async def output_is_full() -> bool:
        return await redis.xlen(OUTPUT) >= mark

    async with process({**settings, "BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK": str(mark)}) as running:
        await until(output_is_full)
        running.kill()
        assert await running.wait() == -signal.SIGKILL
    assert await redis.xlen(INPUT) + await redis.zcard(PARKED) > 0
    served.faults.serving_repos.clear()
    asked = served.requests.total()
    async with process(settings) as running:
        await until(lambda: served.requests.total() > asked)
        running.kill()
        await running.wait()
    served.faults.serving_repos.set()
    async with process(settings):
        await until(lambda: idle(redis))
    found = await output(redis)
    for did in dids:
        assert found[did].whole
        assert found[did].in_order
        assert found[did].paths == ours(leaves(served.recording.car(did) or b""))
    assert await redis.xlen(DLQ) == 0


async def test_sigterm_ends_it_with_0_within_the_grace_and_the_work_is_kept(
    network: StartNetwork, redis: Redis, redis_url: str
) -> None:
    served = await network("basic")
    dids = [repo.did for repo in served.recording.repos]
    served.faults.serving_repos.clear()
    await enqueue(redis, dids)
    settings = environment(redis_url, served.url, GRACE_SECONDS="0.5")

    async with process(settings) as running:
        await until(lambda: any("getRepo" in path for path in served.requests))
        running.terminate()
        async with asyncio.timeout(5):
            assert await running.wait() == 0
    assert await redis.xlen(INPUT) + await redis.zcard(PARKED) == len(dids)
    served.faults.serving_repos.set()
    async with process(settings) as running:
        await until(lambda: idle(redis))
        running.terminate()
        async with asyncio.timeout(5):
            assert await running.wait() == 0
    assert {did for did, emitted in (await output(redis)).items() if emitted.whole} == set(dids)


async def test_a_setting_that_cannot_be_meant_stops_the_start(redis_url: str) -> None:
    settings = environment(redis_url, "http://127.0.0.1:1")
    for change, complaint in (
        ({"BACKFILLER_COLLECTIONS": "app.bsky"}, b"BACKFILLER_COLLECTIONS"),
        ({"BACKFILLER_CONCURENCY": "5"}, b"BACKFILLER_CONCURENCY is unknown"),
        ({"BACKFILLER_MEMORY_SHARE": "80"}, b"BACKFILLER_MEMORY_SHARE"),
        ({"OUTBOUND_ALLOW": "localhost"}, b"OUTBOUND_ALLOW"),
    ):
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "backfiller"), env={**os.environ, **settings, **change}, cwd=ROOT, stderr=-1
        )
        _, complaints = await running.communicate()
        assert running.returncode == 2
        assert complaint in complaints
