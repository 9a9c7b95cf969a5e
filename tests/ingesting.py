"""The ingester as a process of its own, what it should have written, and waiting for it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from common.dag_cbor import cid_text, decode_header_and_body, encode
from sluice.network import RecordedNetwork
from sluice.server import free_port
from tests.waiting import until

StartIngester = Callable[..., Awaitable["Ingester"]]
ROOT = Path(__file__).parents[1]
IDENTITY = "did:plc:madeheremadeheremadehere"
Event = tuple[Any, ...]


class Metrics(dict[str, float]):
    """Samples by name, summed over their labels; and by name and labels, as they stand on the page."""

    @property
    def unaccounted(self) -> float:
        left_out = self["firehose_filtered_operations_total"] + self["dropped_total"]
        return self["received_total"] - self["written_total"] - left_out - self["events_in_memory"]


class Ingester:
    """`python -m ingester`, with what it wrote to its log."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.port = free_port()
        self._environ = {"PATH": os.environ["PATH"], "METRICS_PORT": str(self.port), **environ}
        self.lines: list[str] = []

    async def start(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ingester"), env=self._environ, cwd=ROOT, stderr=asyncio.subprocess.PIPE
        )
        self._reading = asyncio.create_task(self._read_log())
        return self

    async def _read_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode())

    async def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signum)
        async with asyncio.timeout(30):
            await self._reading
            return await self.process.wait()

    async def is_ready(self) -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
            return answer.status == 200

    def messages(self) -> list[str]:
        return [json.loads(line)["message"] for line in self.lines if line.startswith("{")]

    async def metrics(self) -> Metrics:
        """None of the prefix `ingester_` stands in the names."""
        found = Metrics()
        async with aiohttp.ClientSession() as http:
            try:
                async with http.get(f"http://127.0.0.1:{self.port}/metrics") as answer:
                    page = await answer.text()
            except aiohttp.ClientError:
                return found
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                name = sample.name.removeprefix("ingester_")
                found[name] = found.get(name, 0) + sample.value
                for label, value in sample.labels.items():
                    found[f"{name} {label}={value}"] = found.get(f"{name} {label}={value}", 0) + sample.value
        return found


def settings_for(*relays: RecordedNetwork) -> dict[str, str]:
    """Everything of these relays' firehoses; the first is the directory too."""
    return {
        "INGESTER_MODE": "firehose",
        "INGESTER_RELAY_HOSTS": ",".join(relay.websocket_url for relay in relays),
        "INGESTER_COLLECTIONS": "*",
        "INGESTER_BATCH_TIMEOUT_MS": "100",
        "PLC_URL": relays[0].url if relays else "http://127.0.0.1:9",
        "OUTBOUND_ALLOW": ",".join(map(host, relays)),
    }


def host(network: RecordedNetwork) -> str:
    return network.url.removeprefix("http://")


def labeler(network: RecordedNetwork) -> dict[str, str]:
    """The settings to read its labeler too."""
    return {
        "INGESTER_MODE": "firehose,labeler",
        "INGESTER_LABELER_HOSTS": network.websocket_url,
        "PLC_URL": network.url,
        "OUTBOUND_ALLOW": host(network),
    }


def padded_identity(seq: int, size: int) -> bytes:
    body = {"seq": seq, "did": IDENTITY, "time": "2026-11-20T00:00:00Z", "padding": "x" * size}
    return encode({"op": 1, "t": "#identity"}) + encode(body)


def recorded(frames: Iterable[bytes], *, restated: bool = False) -> list[Event]:
    """What should stand on the stream, decoded here and not by what is tested.

    Servers say with a #sync what their last commit has said already: that is no news, unless all is to be `restated`.
    """
    events: list[Event] = []
    seen: set[tuple[str, str]] = set()
    for header, body in map(decode_header_and_body, frames):
        if header["t"] == "#commit":
            for op in body["ops"]:
                cid = cid_text(op["cid"]) if op["cid"] else None
                events.append((body["seq"], op["action"], body["repo"], op["path"], cid))
            if not body["ops"]:
                events.append((body["seq"], "repo", body["repo"], "", None))
            seen.add((body["repo"], body["rev"]))
        elif header["t"] != "#sync":
            events.append((body["seq"], header["t"].removeprefix("#"), body["did"], "", None))
        elif restated or (body["did"], body["rev"]) not in seen:
            events.append((body["seq"], "repo", body["did"], "", None))
    return events


def as_recorded(payload: bytes) -> Event:
    event = json.loads(payload)
    path = f"{event['collection']}/{event['rkey']}" if "rkey" in event else ""
    return (event["seq"], event["type"], event["did"], path, event.get("cid"))


async def on_the_stream(redis: Redis) -> list[Event]:
    entries: Any = await redis.xrange("firehose_live")
    return [as_recorded(fields[b"event"]) for _, fields in entries]


async def until_cursor(redis: Redis, network: RecordedNetwork, seq: int | None = None) -> None:
    wanted = network.firehose.last_seq if seq is None else seq

    async def is_there() -> bool:
        return int(await redis.get(f"firehose_live:cursor:{host(network)}") or 0) >= wanted

    await until(is_there)


async def until_listed(redis: Redis, network: RecordedNetwork) -> None:
    async def is_done() -> bool:
        return await redis.get(f"repo_backfill:cursor:{host(network)}") == b"!ingester-done"

    await until(is_done)


async def until_metric(ingester: Ingester, name: str, is_enough: Callable[[float], bool]) -> Metrics:
    async def enough() -> Metrics | None:
        found = await ingester.metrics()
        return found if name in found and is_enough(found[name]) else None

    found: Metrics = await until(enough)
    return found


async def until_log(daemon: Ingester, message: str) -> None:
    await until(lambda: message in daemon.messages())
