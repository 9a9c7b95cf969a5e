"""A pipeline between a recorded network and the tables: its daemons, killed and started, and how far it is."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis

from sluice.drain import Watch
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline, Upstream, Wiring
from tests.commands import pid_of
from tests.expected_rows import differences, expected_rows, rows_of, unexplained


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

    async def has_reached(self, frames: int) -> bool:
        return await self.frames() >= frames

    async def is_drained(self) -> bool:
        return (await self.watch.look()).is_drained()

    async def in_hand(self, stream: str, group: str) -> int:
        return int((await self.redis.xpending(stream, group))["pending"])

    async def differences(self) -> list[str]:
        return unexplained("load-tiny", differences(await rows_of(self.connection), expected_rows("load-tiny")))
