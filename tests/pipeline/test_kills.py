"""Daemons killed in the middle of their work and started again: the rows are those of a run without a fault."""

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

from common.streams import FIREHOSE_BACKFILL, FIREHOSE_LIVE, REPO_BACKFILL
from sluice.drain import Watch
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline
from tests.commands import leftovers
from tests.databases import connected
from tests.pipeline_runs import Run, wiring
from tests.recorded_network import StartNetwork
from tests.waiting import until

FRAMES_A_SECOND = 300.0


async def test_daemons_that_are_killed_again_and_again_lose_nothing_and_repeat_nothing(
    network: StartNetwork, redis: Redis, redis_url: str, migrated_url: str, tmp_path: Path
) -> None:
    served = await network("load-tiny", pace=FRAMES_A_SECOND)
    last = served.recording.last_seq
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connected(migrated_url))
        watch = Watch(redis, connection, "bsky", urlsplit(served.url).netloc)
        pipeline = await stack.enter_async_context(Pipeline(wiring(served, redis_url, migrated_url, tmp_path)))
        run = Run(pipeline, watch, redis, connection)
        await live(run, served, last)
        assert await run.differences() == []
        await backfill(run, served)
        assert await run.differences() == []
    assert [left for left in leftovers(tmp_path) if not left.endswith(".log")] == []


async def live(run: Run, served: RecordedNetwork, last: int) -> None:
    await run.start("indexer")
    await run.start("ingester")
    for frames in (300, 900, 1500):
        served.firehose.resume(up_to=frames)
        await until(partial(run.has_reached, frames - 100))
        await run.killed("ingester")
        async with run.connection.transaction():
            await run.connection.execute('LOCK TABLE bsky."like"')
            served.firehose.resume(up_to=frames + 300)
            await until(lambda: run.in_hand(FIREHOSE_LIVE, "firehose_group"))
            await run.killed("indexer")
    served.firehose.resume()
    await until(partial(run.has_reached, last))
    await until(run.is_drained)


async def backfill(run: Run, served: RecordedNetwork) -> None:
    served.faults.serving_repos.clear()
    await run.start("backfiller")
    await run.start("ingester", "backfill")
    await until(lambda: run.in_hand(REPO_BACKFILL, "repo_backfill_group"))
    await run.killed("backfiller")
    async with run.connection.transaction():
        await run.connection.execute("LOCK TABLE bsky.record")
        served.faults.serving_repos.set()
        await until(lambda: run.in_hand(FIREHOSE_BACKFILL, "firehose_group"))
        await run.killed("backfiller")
        await run.killed("indexer")
    await until(run.is_drained)
    whole = await run.connection.fetchval("SELECT count(*) FROM sluice_bsky.repo WHERE floor_rev <> ''")
    assert whole == sum(repo.active for repo in served.recording.repos)
