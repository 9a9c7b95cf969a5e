"""The three daemons wired to one network, one Redis and one Postgres, each with its environment as in production."""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from sluice.processes import DaemonProcess
from sluice.samples import Samples
from sluice.server import free_port

# everything that the AppView reads: its own collections, chat's, and one that a guest application declares
APPVIEW_COLLECTIONS = "app.bsky.*,chat.bsky.*,com.germnetwork.declaration"


@dataclass(frozen=True)
class Upstream:
    """Where a network is reached, as settings of the daemons."""

    relay_hosts: str
    plc_url: str
    labeler_hosts: str = ""
    handle_resolver: str = ""
    outbound_allow: str = ""


@dataclass(frozen=True)
class Wiring:
    redis_url: str
    database_url: str
    schema: str
    upstream: Upstream
    folder: Path
    disposable: bool
    log_level: str = "INFO"
    extra: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # more settings, by daemon


@dataclass
class Pipeline:
    """An async context: the daemons that were started, stopped in the order of the flow when it ends."""

    wiring: Wiring
    daemons: list[DaemonProcess] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        self.http = await self._stack.enter_async_context(aiohttp.ClientSession())
        return self

    async def __aexit__(self, *_: object) -> None:
        for daemon in sorted(self.daemons, key=lambda daemon: _FLOW.index(daemon.name.partition("-")[0])):
            await daemon.stop()
        await self._stack.aclose()

    def addresses(self) -> list[str]:
        """host:port of the metrics of every daemon that was started."""
        return [urlsplit(daemon.url).netloc for daemon in self.daemons]

    async def start_ingester(self, modes: str, name: str = "ingester") -> DaemonProcess:
        upstream = self.wiring.upstream
        environ = {
            "INGESTER_RELAY_HOSTS": upstream.relay_hosts,
            "INGESTER_LABELER_HOSTS": upstream.labeler_hosts,
            "INGESTER_MODE": modes,
            "INGESTER_COLLECTIONS": APPVIEW_COLLECTIONS,
        }
        return await self._start(name, "ingester", environ, "METRICS_PORT")

    async def start_backfiller(self, name: str = "backfiller") -> DaemonProcess:
        environ = {"BACKFILLER_CONSUMER": name, "BACKFILLER_COLLECTIONS": APPVIEW_COLLECTIONS}
        return await self._start(name, "backfiller", environ, "BACKFILLER_METRICS_PORT")

    async def start_indexer(self, number: int) -> DaemonProcess:
        environ = {
            "DATABASE_URL": self.wiring.database_url,
            "DATABASE_SCHEMA": self.wiring.schema,
            "INDEXER_CONSUMER": f"indexer_{number}",
            "INDEXER_HANDLE_RESOLVER": self.wiring.upstream.handle_resolver,
        }
        return await self._start(f"indexer-{number}", "indexer", environ, "METRICS_PORT")

    async def metrics(self, daemons: Iterable[str] = ("ingester", "backfiller", "indexer")) -> Samples:
        """The samples of all daemons of these kinds, summed."""
        total = Samples()
        for daemon in self.daemons:
            if daemon.name.partition("-")[0] in daemons:
                total += await daemon.metrics(self.http)
        return total

    async def _start(self, name: str, module: str, environ: Mapping[str, str], port_setting: str) -> DaemonProcess:
        port = free_port()
        shared = {
            "REDIS_URL": self.wiring.redis_url,
            "PLC_URL": self.wiring.upstream.plc_url,
            "OUTBOUND_ALLOW": self.wiring.upstream.outbound_allow,
            "LOG_LEVEL": self.wiring.log_level,
            "DATA_IS_DISPOSABLE": "true" if self.wiring.disposable else "false",
            "GRACE_SECONDS": "10",
            port_setting: str(port),
        }
        extra = self.wiring.extra.get(module, {})
        daemon = DaemonProcess(name, module, {**shared, **environ, **extra}, port, self.wiring.folder)
        self.daemons.append(daemon)
        await daemon.until_ready(self.http)
        return daemon


_FLOW = ("ingester", "backfiller", "indexer")
