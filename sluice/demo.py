"""`sluice demo`: a recorded network, from the websocket to the rows, with everything it needs started here."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis

from common.errors import CannotStart
from common.redis_connection import check_redis, open_redis
from indexer.migrations import check_schema, migrate
from sluice.account import Account, account, dead_letters_by_reason, fingerprints, rows_by_table
from sluice.connecting import connected
from sluice.drain import Progress, Watch
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline, Upstream, Wiring
from sluice.recording import Contents, Recording
from sluice.stack import embedded_postgres, embedded_redis

LOOK_SECONDS = 0.2
BACKFILLS = ("after", "none", "only", "mixed")


@dataclass(frozen=True)
class Servers:
    """Where Redis and Postgres are; an empty URL means: start one, in `keep` or in a temporary folder."""

    redis_url: str = ""
    postgres_url: str = ""
    schema: str = "bsky"
    keep: Path | None = None


@dataclass(frozen=True)
class Options:
    recording: Path
    servers: Servers
    indexers: int = 1
    backfill: str = ""  # empty: after, where the recording has repos to fetch


@dataclass(frozen=True)
class Result:
    """`changed` names the tables that a backfill after the live events changed; None if there was no such backfill."""

    account: Account
    changed: tuple[str, ...] | None
    seconds: float
    daemons: dict[str, str]
    dead_letters: int


class Stage:
    """The servers, started or found, with the schema in place."""

    def __init__(self, redis_url: str, postgres_url: str, redis: Redis, connection: asyncpg.Connection) -> None:
        self.redis_url = redis_url
        self.postgres_url = postgres_url
        self.redis = redis
        self.connection = connection


@asynccontextmanager
async def set_stage(servers: Servers) -> AsyncIterator[Stage]:
    """Raises CannotStart."""
    async with AsyncExitStack() as stack:
        redis_url = servers.redis_url or await stack.enter_async_context(embedded_redis(servers.keep))
        redis = await stack.enter_async_context(open_redis(redis_url))
        await check_redis(redis, disposable=True)
        postgres_url = servers.postgres_url or await stack.enter_async_context(embedded_postgres(servers.keep))
        connection = await stack.enter_async_context(connected(postgres_url, "--postgres-url"))
        await migrate(connection, servers.schema)
        await check_schema(connection, servers.schema)
        yield Stage(redis_url, postgres_url, redis, connection)


class Demo:
    """Plays a recording through the pipeline. An async context; `play` ends when everything is through."""

    def __init__(self, options: Options, on_progress: Callable[[str, Progress], None]) -> None:
        if options.backfill not in ("", *BACKFILLS):
            raise CannotStart(f"--backfill {options.backfill}: choose one of {', '.join(BACKFILLS)}")
        self.options = options
        self._on_progress = on_progress

    async def __aenter__(self) -> "Demo":
        async with AsyncExitStack() as stack:
            self.recording = stack.enter_context(Recording.open(self.options.recording))
            self.backfill = self._chosen_backfill()
            self.contents: Contents = await asyncio.to_thread(self.recording.count_operations)
            self.stage = await stack.enter_async_context(set_stage(self.options.servers))
            network = await stack.enter_async_context(RecordedNetwork(self.recording))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-demo-")))
            host = urlsplit(network.url).netloc
            self.watch = Watch(self.stage.redis, self.stage.connection, self.options.servers.schema, host)
            self.pipeline = await stack.enter_async_context(Pipeline(self._wiring(network, host, folder)))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _chosen_backfill(self) -> str:
        chosen = self.options.backfill or ("after" if self.recording.has_cars else "none")
        if chosen != "none" and not self.recording.has_cars:
            raise CannotStart(f"--backfill {chosen}: the recording {self.recording.name} has no repos to fetch")
        return chosen

    def _wiring(self, network: RecordedNetwork, host: str, folder: Path) -> Wiring:
        upstream = Upstream(
            relay_hosts=network.websocket_url,
            labeler_hosts=network.websocket_url if len(self.recording.labels) else "",
            plc_url=network.url,
            handle_resolver=network.url,
            outbound_allow=host,
        )
        servers = self.options.servers
        return Wiring(
            self.stage.redis_url,
            self.stage.postgres_url,
            servers.schema,
            upstream,
            folder,
            disposable=True,
            extra={
                "ingester": {"INGESTER_LISTING_SKIPS_WHOLE": "false"},  # to see that a backfill changes nothing
                "backfiller": {"BACKFILLER_HOST_REQUESTS_PER_SECOND": "1000"},  # nobody minds on loopback
            },
        )

    async def play(self) -> Result:
        """Raises DaemonFailed when a daemon ends that should run."""
        started = time.monotonic()
        for number in range(1, self.options.indexers + 1):
            await self.pipeline.start_indexer(number)
        if self.backfill != "none":
            await self.pipeline.start_backfiller()
        changed = None
        match self.backfill:
            case "mixed":
                await self.pipeline.start_ingester("all")
                await self._drain("live and backfill", live=True, listed=True)
            case "only":
                await self.pipeline.start_ingester("backfill")
                await self._drain("backfill", live=False, listed=True)
            case _:
                await self.pipeline.start_ingester("firehose,labeler")
                await self._drain("live", live=True, listed=False)
        if self.backfill == "after":
            changed = await self._backfill_after()
        return await self._result(time.monotonic() - started, changed)

    async def _backfill_after(self) -> tuple[str, ...]:
        before = await self._fingerprints()
        await self.pipeline.start_ingester("backfill", "ingester-backfill")
        await self._drain("backfill", live=True, listed=True)
        after = await self._fingerprints()
        return tuple(table for table in after if after[table] != before.get(table))

    async def _fingerprints(self) -> dict[str, str]:
        return await fingerprints(self.stage.connection, self.options.servers.schema)

    async def _drain(self, phase: str, *, live: bool, listed: bool) -> None:
        last, last_label = self.recording.last_seq, self.recording.last_label_seq
        while True:
            progress = await self.watch.look()
            self._on_progress(phase, progress)
            arrived = not live or (progress.frames >= last and progress.labels >= last_label)
            if arrived and (progress.listed or not listed) and progress.is_drained():
                return
            for daemon in self.pipeline.daemons:
                daemon.check()
            await asyncio.sleep(LOOK_SECONDS)

    async def _result(self, seconds: float, changed: tuple[str, ...] | None) -> Result:
        schema, connection = self.options.servers.schema, self.stage.connection
        letters = await dead_letters_by_reason(connection, schema)
        rows = await rows_by_table(connection, schema)
        recorded = self.contents if self.backfill != "only" else None
        summary = account(await self.pipeline.metrics(), rows, letters, recorded)
        urls = {daemon.name: f"{daemon.url}/metrics" for daemon in self.pipeline.daemons}
        return Result(summary, changed, seconds, urls, sum(letters.values()))
