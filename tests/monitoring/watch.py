"""Prometheus, Alertmanager and somebody who listens, beside daemons on loopback: our files, with shorter waits."""

import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import yaml
from aiohttp import web

from sluice.server import Place, Server, free_port, running
from tests.monitoring.tools import tool

HOME = Path(__file__).parents[2]
SHORTER = 60  # a minute of waiting in a rule is a second here
Json = dict[str, Any]


@dataclass
class Listener:
    """Takes what Alertmanager sends: alerts as (name, labels), and calls of the dead man's switch."""

    alerts: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    signs_of_life: int = 0

    async def alert(self, request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            if alert["status"] == "firing":
                self.alerts.append((alert["labels"]["alertname"], alert["labels"]))
        return web.Response()

    async def alive(self, request: web.Request) -> web.Response:
        names = {alert["labels"]["alertname"] for alert in (await request.json())["alerts"]}
        assert names == {"Watchdog"}
        self.signs_of_life += 1
        return web.Response()

    def names(self) -> set[str]:
        return {name for name, _ in self.alerts}


@dataclass(frozen=True)
class Watch:
    """Questions to the running servers."""

    http: aiohttp.ClientSession
    prometheus: str
    alertmanager: str
    listener: Listener

    async def query(self, expr: str) -> list[Json]:
        """The samples of an instant query. Raises ValueError, with Prometheus' words, if it cannot be answered."""
        async with self.http.get(f"{self.prometheus}/api/v1/query", params={"query": expr}) as answer:
            said = await answer.json()
        if said["status"] != "success":
            raise ValueError(f"{said['error']}: {expr}")
        return cast(list[Json], said["data"]["result"])

    async def value(self, expr: str) -> float | None:
        found = await self.query(expr)
        return float(found[0]["value"][1]) if found else None

    async def rules(self) -> list[Json]:
        async with self.http.get(f"{self.prometheus}/api/v1/rules") as answer:
            return [rule for group in (await answer.json())["data"]["groups"] for rule in group["rules"]]

    async def firing(self) -> set[str]:
        return {sample["metric"]["alertname"] for sample in await self.query('ALERTS{alertstate="firing"}')}

    async def held_back(self) -> set[str]:
        """Alerts that Alertmanager knows and tells nobody, because another one is their cause."""
        async with self.http.get(f"{self.alertmanager}/api/v2/alerts") as answer:
            alerts = await answer.json()
        return {alert["labels"]["alertname"] for alert in alerts if alert["status"]["inhibitedBy"]}


@asynccontextmanager
async def watching(targets: Mapping[str, Sequence[str]]) -> AsyncIterator[Watch]:
    """`targets`: job -> host:port of its daemons or exporters."""
    async with AsyncExitStack() as stack:
        listener = Listener()
        listens_at = await _listen(stack, listener)
        alertmanager = await stack.enter_async_context(_running("alertmanager", _alertmanager_at(listens_at)))
        prometheus = await stack.enter_async_context(_running("prometheus", _prometheus_at(targets, alertmanager)))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Watch(http, prometheus, alertmanager, listener)


def _running(name: str, server_at: Any) -> Any:
    return running(name, None, server_at, user=None, port=free_port, temporary_in=None)


async def _listen(stack: AsyncExitStack, listener: Listener) -> str:
    app = web.Application()
    app.router.add_post("/alerts", listener.alert)
    app.router.add_post("/alive", listener.alive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


def _alertmanager_at(listens_at: str) -> Any:
    def server_at(place: Place) -> Server:
        # an Alertmanager before 0.26 reads the address from the configuration only
        text = (HOME / "ops" / "alertmanager.yml").read_text()
        for secret, path in (("alerts_url", "alerts"), ("deadman_url", "alive")):
            text = text.replace(f"url_file: /run/secrets/{secret}", f"url: {listens_at}/{path}")
        (place.home / "alertmanager.yml").write_text(re.sub(r"(_wait|_interval): \w+", r"\1: 1s", text))
        command = (
            tool("prometheus-alertmanager"),
            f"--config.file={place.home}/alertmanager.yml",
            f"--storage.path={place.home}/data",
            f"--web.listen-address=127.0.0.1:{place.port}",
            "--cluster.listen-address=",
        )
        return server(place, command, is_ready)

    return server_at


def _prometheus_at(targets: Mapping[str, Sequence[str]], alertmanager: str) -> Any:
    def server_at(place: Place) -> Server:
        own = {"prometheus": [f"127.0.0.1:{place.port}"], "alertmanager": [alertmanager.removeprefix("http://")]}
        _write_configuration(place.home, {**targets, **own})
        command = (
            tool("prometheus"),
            f"--config.file={place.home}/prometheus.yml",
            f"--storage.tsdb.path={place.home}/data",
            f"--web.listen-address=127.0.0.1:{place.port}",
            "--web.enable-admin-api",
        )
        return server(place, command, is_ready)

    return server_at


def _write_configuration(folder: Path, targets: Mapping[str, Sequence[str]]) -> None:
    """prometheus.yml with these targets and a look every second; the rules with shorter waits."""
    configuration = yaml.safe_load((HOME / "prometheus.yml").read_text())
    configuration["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    configuration["scrape_configs"] = [job for job in configuration["scrape_configs"] if job["job_name"] in targets]
    for job in configuration["scrape_configs"]:
        job["static_configs"][0]["targets"] = list(targets[job["job_name"]])
    configuration["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = targets["alertmanager"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    rules = folder / "ops" / "rules"
    rules.mkdir(parents=True, exist_ok=True)
    for path in (HOME / "ops" / "rules").glob("*.yml"):
        (rules / path.name).write_text(re.sub(r"(?m)^( +for: )(\d+[mh])$", _shortened, path.read_text()))


def _shortened(found: re.Match[str]) -> str:
    seconds = int(found[2][:-1]) * {"m": 60, "h": 3600}[found[2][-1]]
    return f"{found[1]}{seconds // SHORTER}s"


def server(place: Place, command: tuple[str, ...], answers: Callable[[str], Awaitable[bool]]) -> Server:
    url = f"http://127.0.0.1:{place.port}"
    return Server(url=url, commands=(command,), answers=answers, stop_signal=signal.SIGTERM)


async def is_ready(url: str) -> bool:
    return await is_there(f"{url}/-/ready")


async def is_there(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def has_number(samples: Sequence[Json]) -> bool:
    return any(sample["value"][1] != "NaN" for sample in samples)
