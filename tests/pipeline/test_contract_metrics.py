"""Every metric of the contract, from real daemons in good times and bad: there from the start, and seen to move."""

import asyncio
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import zstandard
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from common.streams import FIREHOSE_LIVE, LABEL_LIVE
from sluice.contract import BACKFILLER, CONTRACT, GAUGES, INDEXER, INGESTER
from sluice.network import RecordedNetwork
from sluice.processes import DaemonProcess
from sluice.recording import Recording
from sluice.server import free_port
from tests.conftest import SHIPPED_RECORDINGS
from tests.proxy import Proxy
from tests.recorded_network import StartNetwork
from tests.waiting import until

# what this scenario cannot bring about, and the tests that do
MOVED_ELSEWHERE = {
    "backfiller_backpressure_active": "integration/test_backfiller_pressure.py",
    "backfiller_hosts_left_alone": "integration/test_backfiller_counts.py",
    "backfiller_records_unreadable": "integration/test_backfiller_counts.py",
    "backfiller_bytes_in_hand": "integration/test_backfiller_pressure.py",
    "backfiller_parking_full": "integration/test_backfiller_bounds.py",
    "ingester_dropped": "integration/test_subscription.py",
    "ingester_repos_desynchronised": "integration/test_ingester_gauges.py",
    "ingester_resyncs_queued": "integration/test_ingester_gauges.py",
    "ingester_source_paused": "integration/test_controls.py",
}

END_WHO_WAITS = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass
class Fleet:
    """Daemons, and the metrics of the contract that have been seen above zero."""

    http: aiohttp.ClientSession
    folder: Path
    shared: Mapping[str, str]
    daemons: list[DaemonProcess] = field(default_factory=list)
    moved: set[str] = field(default_factory=set)
    moved_families: set[str] = field(default_factory=set)  # the contract's and our own

    async def start(self, module: str, environ: Mapping[str, str]) -> None:
        port = free_port()
        ports = {"METRICS_PORT": str(port), "BACKFILLER_METRICS_PORT": str(port)}
        ports = {name: value for name, value in ports.items() if name.startswith("BACK") == (module == "backfiller")}
        daemon = DaemonProcess(module, module, {**self.shared, **ports, **environ}, port, self.folder)
        self.daemons.append(daemon)
        await daemon.until_ready(self.http)
        async with self.http.get(f"{daemon.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        there = {line.split(" ")[0] for line in lines}
        assert CONTRACT[module] - there == set()

    async def see(self, *names: str) -> None:
        """Until all of these have moved."""
        try:
            await until(lambda: self._have_moved(names))
        except TimeoutError:
            raise AssertionError(f"never moved: {sorted(set(names) - self.moved)}") from None

    async def _have_moved(self, names: tuple[str, ...]) -> bool:
        for daemon in self.daemons:
            metrics = await daemon.metrics(self.http)
            self.moved |= {name for name in CONTRACT[daemon.name] if metrics[name] > 0}
            await self._note_families(daemon)
        return self.moved >= set(names)

    async def see_families(self, names: set[str]) -> None:
        """Until all of these, by the name on the page's TYPE line, have moved."""

        async def have_moved() -> bool:
            for daemon in self.daemons:
                await self._note_families(daemon)
            return names <= self.moved_families

        try:
            await until(have_moved, 20)
        except TimeoutError:
            raise AssertionError(f"never moved: {sorted(names - self.moved_families)}") from None

    async def _note_families(self, daemon: DaemonProcess) -> None:
        async with self.http.get(f"{daemon.url}/metrics") as answer:
            for family in text_string_to_metric_families(await answer.text()):
                if any(sample.value for sample in family.samples):
                    self.moved_families.add(family.name)


@asynccontextmanager
async def fleet(folder: Path, shared: Mapping[str, str]) -> AsyncIterator[Fleet]:
    async with aiohttp.ClientSession() as http:
        here = Fleet(http, folder, shared)
        try:
            yield here
        finally:
            await asyncio.gather(*(daemon.stop() for daemon in here.daemons))


def damaged(folder: Path) -> tuple[Path, str]:
    """The network `full` with one repo that is cut short and one that is somebody else's; and a third repo's DID."""
    with (SHIPPED_RECORDINGS / "full.tar.zst").open("rb") as packed:
        unpacked = zstandard.ZstdDecompressor().stream_reader(packed)
        with tarfile.open(fileobj=unpacked, mode="r|") as archive:
            archive.extractall(folder, filter="data")
    (home,) = folder.iterdir()
    cut, swapped, third, *_ = sorted((home / "cars").iterdir())
    swapped.write_bytes(third.read_bytes())
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    return home, third.stem.replace("_", ":")


async def test_every_metric_of_the_contract_is_there_from_the_start_and_moves(
    network: StartNetwork, redis: Redis, redis_url: str, migrated_url: str, tmp_path: Path
) -> None:
    for name in ("recording", "logs"):
        (tmp_path / name).mkdir()
    home, failing = damaged(tmp_path / "recording")
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(RecordedNetwork(stack.enter_context(Recording.open(home))))
        served.faults.statuses[f"getRepo?did={failing}"] = 500
        served.faults.serving_repos.clear()
        second = await network("basic")
        second.faults.statuses["cursor=2"] = 500  # a row of listRepos that this host has lost, and where we are now
        hosts = {here: urlsplit(here.url).netloc for here in (served, second)}
        await redis.set(f"repo_backfill:cursor:{hosts[second]}", "2")
        proxy = await stack.enter_async_context(Proxy(redis_url))
        shared = {
            **{"REDIS_URL": redis_url, "DATA_IS_DISPOSABLE": "true", "GRACE_SECONDS": "5"},
            **{"PLC_URL": served.url, "OUTBOUND_ALLOW": ",".join(hosts.values())},
        }
        here = await stack.enter_async_context(fleet(tmp_path / "logs", shared))
        relays = ",".join(network.websocket_url for network in hosts)
        environ = {"INGESTER_RELAY_HOSTS": relays, "INGESTER_LABELER_HOSTS": served.websocket_url}
        await here.start("ingester", {**environ, "INGESTER_HIGH_WATER_MARK": "200", "INGESTER_BATCH_SIZE": "50"})
        await here.see(
            *("ingester_firehose_live_length", "ingester_label_live_length"),
            *("ingester_backpressure_active", "ingester_websocket_connections"),
        )
        retries = {"BACKFILLER_MAX_RETRIES": "2", "BACKFILLER_RETRY_INITIAL_BACKOFF_MS": "1"}
        await here.start("backfiller", {"BACKFILLER_CONSUMER": "one", "BACKFILLER_CONCURRENCY": "1", **retries})
        await here.see("backfiller_repos_waiting", "backfiller_repos_running")
        await index_in_bad_times(here, served, proxy, migrated_url)
        await here.see(*INGESTER, *BACKFILLER, *INDEXER)
        assert here.moved == set().union(*CONTRACT.values())
        await here.see_families(own_families() - MOVED_ELSEWHERE.keys())
        await until(lambda: is_drained(redis))


async def index_in_bad_times(here: Fleet, served: RecordedNetwork, proxy: Proxy, database_url: str) -> None:
    """An indexer that waits for a lock, loses its connection to Postgres, and then the reply to an ack."""
    connection = await asyncpg.connect(database_url)
    environ = {"DATABASE_URL": database_url, "REDIS_URL": proxy.url, "INDEXER_HANDLE_RESOLVER": served.url}
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE bsky.record")
            await here.start("indexer", environ)
            served.faults.serving_repos.set()
            await here.see("indexer_pending_messages", "indexer_active_tasks", "backfiller_output_stream_length")
            await until(lambda: connection.fetch(END_WHO_WAITS))
            await here.see_families({"indexer_unexpected_errors"})
            proxy.lose_reply_to(b"XACK")
    finally:
        await connection.close()


async def is_drained(redis: Redis) -> bool:
    return not (await redis.xlen(FIREHOSE_LIVE) or await redis.xlen(LABEL_LIVE))


def own_families() -> set[str]:
    """As they are called on the page."""
    for daemon in CONTRACT:
        import_module(f"{daemon}.app")
    return {family.name for family in REGISTRY.collect() if family.name.startswith((*CONTRACT, "sluice_"))}


def test_a_metric_that_another_test_moves_is_looked_at_there() -> None:
    here = Path(__file__).parents[1]
    assert [name for name, test in MOVED_ELSEWHERE.items() if name not in (here / test).read_text("utf-8")] == []
    assert own_families() >= MOVED_ELSEWHERE.keys()


def test_what_only_shows_a_moment_is_a_gauge_and_all_else_counts() -> None:
    assert {name for names in CONTRACT.values() for name in names if not name.endswith("_total")} == GAUGES
