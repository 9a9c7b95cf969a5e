"""Daemons killed in the middle of their work and started again: the rows are those of a run without a fault."""

import os
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis

from common.streams import FIREHOSE_BACKFILL, FIREHOSE_LIVE, REPO_BACKFILL
from sluice.drain import Watch
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline, Upstream, Wiring
from tests.commands import leftovers, pid_of
from tests.databases import connected
from tests.expected_rows import differences, expected_rows, rows_of, unexplained
from tests.recorded_network import StartNetwork
from tests.waiting import until

FRAMES_A_SECOND = 300.0


def wiring(network: RecordedNetwork, redis_url: str, database_url: str, folder: Path) -> Wiring:
    host = urlsplit(network.url).netloc
    upstream = Upstream(
        relay_hosts=network.websocket_url, plc_url=network.url, handle_resolver=network.url, outbound_allow=host
    )
    extra = {"ingester": {"INGESTER_LISTING_SKIPS_WHOLE": "false"}}
    return Wiring(redis_url, database_url, "bsky", upstream, folder, disposable=True, extra=extra)


def kill(module: str, folder: Path) -> None:
    """As the kernel does when memory is short: nothing is told, nothing is finished."""
    os.kill(pid_of(module, folder), signal.SIGKILL)


@dataclass
class Run:
    """A pipeline between a recorded network and the tables, and what to wait for in it."""

    pipeline: Pipeline
    watch: Watch
    redis: Redis
    connection: asyncpg.Connection
    starts: int = 0

    async def killed(self, module: str) -> None:
        """And started again, under the name that it had in its group."""
        kill(module, self.pipeline.wiring.folder)
        await self.start(module)

    async def start(self, module: str, modes: str = "firehose") -> None:
        self.starts += 1
        match module:
            case "ingester":
                await self.pipeline.start_ingester(modes, f"ingester-{self.starts}")
            case "backfiller":
                await self.pipeline.start_backfiller()
            case "indexer":
                await self.pipeline.start_indexer(1)

    async def frames(self) -> int:
        return (await self.watch.look()).frames

    async def is_drained(self) -> bool:
        return (await self.watch.look()).is_drained()

    async def in_hand(self, stream: str, group: str) -> int:
        return int((await self.redis.xpending(stream, group))["pending"])

    async def differences(self) -> list[str]:
        return unexplained("load-tiny", differences(await rows_of(self.connection), expected_rows("load-tiny")))


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
        await until(partial(reached, run, frames - 100))
        await run.killed("ingester")
        async with run.connection.transaction():
            await run.connection.execute('LOCK TABLE bsky."like"')
            served.firehose.resume(up_to=frames + 300)
            await until(lambda: run.in_hand(FIREHOSE_LIVE, "firehose_group"))
            await run.killed("indexer")
    served.firehose.resume()
    await until(partial(reached, run, last))
    await until(run.is_drained)


async def reached(run: Run, frames: int) -> bool:
    return await run.frames() >= frames


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
