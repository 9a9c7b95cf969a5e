"""The ingester as a process: what a recorded network says stands on the streams once, whatever happens on the way."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from common.dag_cbor import cid_text, decode_header_and_body, encode
from common.redis_connection import open_redis
from sluice.network import RecordedNetwork
from sluice.recording import Recording
from sluice.server import free_port
from sluice.stack import embedded_redis

StartNetwork = Callable[..., Awaitable[RecordedNetwork]]
StartIngester = Callable[..., Awaitable["Ingester"]]
ROOT = Path(__file__).parents[2]
CONTRACT = {
    *("firehose_events", "firehose_create_events", "firehose_update_events", "firehose_delete_events"),
    *("firehose_filtered_operations", "stream_events", "errors", "labeler_events", "labels_written"),
    *("backfill_repos_fetched", "backfill_repos_written", "backfill_fetch_errors", "backfill_cursor_skips"),
}
CONTRACT_GAUGES = {
    *("firehose_live_length", "firehose_backfill_length", "label_live_length", "repo_backfill_length"),
    *("backpressure_active", "websocket_connections", "events_in_memory", "backfill_complete"),
}
Event = tuple[Any, ...]


class Metrics(dict[str, float]):
    """Samples by name, summed over their labels; and by name and labels, as they stand on the page."""

    @property
    def unaccounted(self) -> float:
        came = self["received_total"] + self["labeler_events_total"] + self["backfill_repos_fetched_total"]
        written = self["stream_events_total"] + self["labels_written_total"] + self["backfill_repos_written_total"]
        return (
            came
            - written
            - self["firehose_filtered_operations_total"]
            - self["dropped_total"]
            - self["events_in_memory"]
        )


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


@pytest.fixture
async def ingester(redis_url: str) -> AsyncIterator[StartIngester]:
    """Starts one in the mode `firehose`: `await ingester(network, INGESTER_BATCH_SIZE="5")`."""
    started: list[Ingester] = []

    async def start(*relays: RecordedNetwork, **environ: str) -> Ingester:
        defaults = {
            "REDIS_URL": redis_url,
            "INGESTER_MODE": "firehose",
            "INGESTER_RELAY_HOSTS": ",".join(relay.websocket_url for relay in relays),
            "INGESTER_COLLECTIONS": "*",
            "INGESTER_BATCH_TIMEOUT_MS": "100",
            "PLC_URL": relays[0].url if relays else "http://127.0.0.1:9",
            "OUTBOUND_ALLOW": ",".join(map(host, relays)),
        }
        started.append(await Ingester(defaults | environ).start())
        return started[-1]

    yield start
    for process in started:
        await process.end(signal.SIGKILL)


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


def dids_of(frames: Iterable[bytes]) -> set[str]:
    bodies = [decode_header_and_body(frame)[1] for frame in frames]
    return {body.get("repo") or body["did"] for body in bodies}


def as_recorded(payload: bytes) -> Event:
    event = json.loads(payload)
    path = f"{event['collection']}/{event['rkey']}" if "rkey" in event else ""
    return (event["seq"], event["type"], event["did"], path, event.get("cid"))


def values_of(labels: dict[str, Any]) -> tuple[int, list[Event]]:
    names = ("src", "uri", "cid", "val", "neg", "cts", "exp")
    return labels["seq"], [tuple(label.get(name) for name in names) for label in labels["labels"]]


async def on_the_stream(redis: Redis) -> list[Event]:
    entries: Any = await redis.xrange("firehose_live")
    return [as_recorded(fields[b"event"]) for _, fields in entries]


async def eventually(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - what is awaited happens in other processes
            await asyncio.sleep(0.02)


async def until_cursor(redis: Redis, network: RecordedNetwork, seq: int | None = None) -> None:
    wanted = network.firehose.last_seq if seq is None else seq

    async def is_there() -> bool:
        return int(await redis.get(f"firehose_live:cursor:{host(network)}") or 0) >= wanted

    await eventually(is_there)


async def until_metric(ingester: Ingester, name: str, is_enough: Callable[[float], bool]) -> Metrics:
    found = Metrics()

    async def is_reached() -> bool:
        nonlocal found
        found = await ingester.metrics()
        return name in found and is_enough(found[name])

    await eventually(is_reached)
    return found


async def test_everything_that_was_recorded_stands_on_the_streams(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    daemon = await ingester(served, **(labeler(served) | {"INGESTER_MODE": "all"}))
    await until_cursor(redis, served)
    await until_metric(
        daemon, "labels_written_total", lambda labels: labels == served.recording.count_operations().labels
    )
    metrics = await until_metric(daemon, "backfill_complete", lambda complete: complete == 1)
    assert await on_the_stream(redis) == recorded(served.recording.frames)
    labels: Any = await redis.xrange("label_live")
    assert [values_of(json.loads(fields[b"labels"])) for _, fields in labels] == [
        values_of(decode_header_and_body(frame)[1]) for frame in served.recording.labels
    ]
    assert await redis.xlen("repo_backfill") == len(served.recording.repos)
    assert await redis.get(f"label_live:cursor:{host(served)}") == str(served.recording.last_label_seq).encode()
    assert await redis.get(f"repo_backfill:cursor:{host(served)}") == b"!ingester-done"
    assert await daemon.end() == 0
    assert metrics.unaccounted == 0


def forged(network: RecordedNetwork) -> bytes:
    """What the labeler says next: its last label, and the same about somebody else with the same signature."""
    _, body = decode_header_and_body(network.recording.labels[4])
    (label,) = body["labels"]
    labels = [label, label | {"uri": IDENTITY}]
    return encode({"op": 1, "t": "#labels"}) + encode({"seq": network.labels.last_seq + 1, "labels": labels})


async def labels_on_the_stream(redis: Redis) -> list[Any]:
    entries: Any = await redis.xrange("label_live")
    return [values_of(json.loads(fields[b"labels"])) for _, fields in entries]


async def test_a_forged_label_is_dropped_and_the_cursor_goes_on(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    served.labels.append(forged(served))
    daemon = await ingester(served, **labeler(served))
    await until_label_cursor(redis, served)
    metrics = await until_metric(daemon, "labels_written_total", lambda labels: labels == 6)
    assert [len(labels) for _, labels in await labels_on_the_stream(redis)] == [1] * 6
    assert metrics["dropped_total reason=bad_signature"] == metrics["dropped_total source=labeler"] == 1
    assert "labels refused" in daemon.messages()
    await until_cursor(redis, served)
    assert await daemon.end() == 0


async def test_told_not_to_verify_it_takes_any_label(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    served.labels.append(forged(served))
    await ingester(served, **labeler(served), INGESTER_VERIFY_LABELS="false", INGESTER_VERIFY="off")
    await until_label_cursor(redis, served)
    assert [len(labels) for _, labels in await labels_on_the_stream(redis)] == [1, 1, 1, 1, 1, 2]
    assert not any("did:" in path for path in served.requests)


async def test_labels_wait_for_the_directory_and_nothing_else_does(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    served.faults.statuses["/did:plc:"] = 500
    daemon = await ingester(served, **labeler(served), INGESTER_VERIFY="off")
    waiting = await until_metric(daemon, "errors_by_reason_total reason=no_did_document", lambda errors: errors >= 1)
    await until_cursor(redis, served)
    assert (waiting["labeler_events_total"], waiting["dropped_total source=labeler"]) == (0, 0)
    assert await redis.exists("label_live", f"label_live:cursor:{host(served)}") == 0
    del served.faults.statuses["/did:plc:"]
    await until_label_cursor(redis, served)
    assert len(await labels_on_the_stream(redis)) == 5
    assert (await daemon.metrics())["dropped_total source=labeler"] == 0
    assert daemon.messages().count("no DID document to verify labels with, waiting") == 1


async def test_told_to_stop_while_labels_wait_it_stops_where_they_are(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    served.faults.statuses["/did:plc:"] = 500
    daemon = await ingester(served, **labeler(served))
    await until_log(daemon, "no DID document to verify labels with, waiting")
    assert await daemon.end() == 0
    assert "cancelled after the grace period" not in daemon.messages()
    assert await redis.exists("label_live", f"label_live:cursor:{host(served)}") == 0


async def until_label_cursor(redis: Redis, network: RecordedNetwork) -> None:
    async def is_there() -> bool:
        return int(await redis.get(f"label_live:cursor:{host(network)}") or 0) >= network.labels.last_seq

    await eventually(is_there)


async def test_every_metric_of_the_contract_is_there_from_the_start_and_adds_up(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    daemon = await ingester(served, INGESTER_MODE="all", INGESTER_COLLECTIONS="app.bsky.*")
    await until_cursor(redis, served)
    live = await redis.xlen("firehose_live")
    metrics = await until_metric(daemon, "firehose_live_length", lambda length: length == live)
    assert {f"{name}_total" for name in CONTRACT} | CONTRACT_GAUGES <= set(metrics)
    assert len(CONTRACT | CONTRACT_GAUGES) == 21
    operations = Counter(action for _, action, *_ in recorded(served.recording.frames))
    actions = ("create", "update", "delete")
    assert sum(metrics[f"firehose_{action}_events_total"] for action in actions) + metrics[
        "firehose_filtered_operations_total"
    ] == sum(operations[action] for action in actions)
    assert metrics["firehose_filtered_operations_total"] > 0
    assert metrics["websocket_connections"] == 1
    assert metrics["firehose_events_total"] - metrics["dropped_total reason=duplicate"] == live
    assert metrics["stream_events_total"] == live
    assert metrics["frames_total kind=#sync"] == served.recording.count_operations().frames["#sync"] > 0
    assert metrics["dropped_total reason=duplicate"] == metrics["chain_total result=duplicate"] > 0
    assert metrics["repos_known"] == len(dids_of(served.recording.frames))
    assert metrics["upstream_cursor"] == metrics["upstream_received_seq"] == served.firehose.last_seq
    assert metrics.unaccounted == 0


async def test_killed_in_the_middle_it_goes_on_without_loss_or_repetition(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("load-tiny", pace=1500)
    for at_least in (400, 1200):
        daemon = await ingester(served, INGESTER_BATCH_SIZE="50")
        await until_cursor(redis, served, at_least)
        assert await daemon.end(signal.SIGKILL) == -signal.SIGKILL
    await ingester(served)
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)


async def test_connections_that_break_off_lose_and_repeat_nothing(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("load-tiny")
    served.firehose.faults.cut_after = 500
    daemon = await ingester(served)
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)
    assert (await daemon.metrics())["errors_by_reason_total reason=closed"] >= 4


async def test_told_to_stop_it_writes_the_batch_in_its_hands(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    events = recorded(served.recording.frames)
    daemon = await ingester(served, INGESTER_BATCH_SIZE="100000", INGESTER_BATCH_TIMEOUT_MS="600000")
    read = recorded(served.recording.frames, restated=True)
    await until_metric(daemon, "events_in_memory", lambda held: held == len(read))
    assert await redis.exists("firehose_live") == 0
    assert await daemon.end() == 0
    assert await on_the_stream(redis) == events


async def test_a_full_stream_stops_the_socket_and_costs_nothing(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    for seq in range(served.firehose.last_seq + 1, served.firehose.last_seq + 101):
        served.firehose.append(padded_identity(seq, 1_000_000))
    daemon = await ingester(served, INGESTER_HIGH_WATER_MARK="40", INGESTER_BATCH_SIZE="10")
    await until_metric(daemon, "backpressure_seconds_total", lambda seconds: seconds > 0.5)
    sent = served.firehose.sent
    metrics = await until_metric(daemon, "backpressure_seconds_total", lambda seconds: seconds > 1.5)
    assert (metrics["backpressure_active"], metrics.unaccounted) == (1, 0)
    assert served.firehose.sent == sent < len(served.firehose)
    assert await redis.xlen("firehose_live") <= 50
    everything = recorded(served.recording.frames) + [
        (seq, "identity", IDENTITY, "", None)
        for seq in range(served.recording.last_seq + 1, served.firehose.last_seq + 1)
    ]
    assert await drained(redis, len(everything)) == everything
    metrics = await until_metric(daemon, "backpressure_active", lambda active: active == 0)
    assert metrics.unaccounted == 0


IDENTITY = "did:plc:madeheremadeheremadehere"


def padded_identity(seq: int, size: int) -> bytes:
    body = {"seq": seq, "did": IDENTITY, "time": "2026-11-20T00:00:00Z", "padding": "x" * size}
    return encode({"op": 1, "t": "#identity"}) + encode(body)


async def drained(redis: Redis, count: int) -> list[Event]:
    """Take entries off the stream, as a consumer does, until that many came."""
    events: list[Event] = []
    async with asyncio.timeout(60):
        while len(events) < count:
            entries: Any = await redis.xrange("firehose_live", count=20)
            events += [as_recorded(fields[b"event"]) for _, fields in entries]
            if entries:
                await redis.xdel("firehose_live", *(id for id, _ in entries))
            await asyncio.sleep(0.01)
    return events


async def test_two_ingesters_of_one_host_write_every_event_once(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("load-tiny", pace=400)
    daemons = await asyncio.gather(*(ingester(served, INGESTER_BATCH_SIZE=size) for size in ("50", "70")))
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)
    for daemon in daemons:  # whoever came second learns it when it writes
        await until_metric(daemon, "events_in_memory", lambda held: held == 0)
    metrics = [await daemon.metrics() for daemon in daemons]
    assert sum(found["errors_by_reason_total reason=fenced"] for found in metrics) > 0
    assert sum(found["dropped_total reason=unwritten"] for found in metrics) > 0
    assert [found.unaccounted for found in metrics] == [0, 0]


async def test_a_cursor_set_back_by_hand_is_followed(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    await ingester(served)
    await until_cursor(redis, served)
    last, events = served.firehose.last_seq, recorded(served.recording.frames)
    await redis.set(f"firehose_live:cursor:{host(served)}", "20")
    served.firehose.append(padded_identity(last + 1, 0))
    await until_cursor(redis, served)
    again = [event for event in recorded(served.recording.frames, restated=True) if event[0] > 20]
    assert await on_the_stream(redis) == [*events, *again, (last + 1, "identity", IDENTITY, "", None)]


async def test_an_outage_of_redis_is_waited_out(network: StartNetwork, ingester: StartIngester, tmp_path: Path) -> None:
    served, port = await network("load-tiny", pace=1000), free_port()
    async with embedded_redis(tmp_path, port=lambda: port) as url, open_redis(url) as redis:
        daemon = await ingester(served, REDIS_URL=url, INGESTER_BATCH_SIZE="50")
        await until_cursor(redis, served, 500)
    await until_log(daemon, "redis is away, waiting")
    async with embedded_redis(tmp_path, port=lambda: port) as url, open_redis(url) as redis:
        await until_cursor(redis, served)
        assert await on_the_stream(redis) == recorded(served.recording.frames)
        assert await daemon.end() == 0


async def test_told_to_stop_during_an_outage_of_redis_it_stops(network: StartNetwork, ingester: StartIngester) -> None:
    served = await network("load-tiny", pace=1000)
    async with embedded_redis() as url, open_redis(url) as redis:
        daemon = await ingester(served, REDIS_URL=url)
        await until_cursor(redis, served, 100)
    await until_log(daemon, "redis is away, waiting")
    assert await daemon.end() == 0
    assert "cancelled after the grace period" not in daemon.messages()


async def until_log(daemon: Ingester, message: str) -> None:
    async def is_said() -> bool:
        return message in daemon.messages()

    await eventually(is_said)


async def test_each_relay_has_a_cursor_of_its_own(redis: Redis, network: StartNetwork, ingester: StartIngester) -> None:
    one, two = await network("basic"), await network("follows")
    await ingester(one, two, INGESTER_VERIFY="off")  # neither directory knows the other's accounts
    await until_cursor(redis, one)
    await until_cursor(redis, two)
    both = recorded(one.recording.frames) + recorded(two.recording.frames)
    assert Counter(await on_the_stream(redis)) == Counter(both)


async def test_a_host_that_is_not_there_yet_is_waited_for(
    redis: Redis, recording: Callable[[str], Recording], redis_url: str, ingester: StartIngester
) -> None:
    port = free_port()
    daemon = await ingester(INGESTER_RELAY_HOSTS=f"ws://127.0.0.1:{port}")
    await until_metric(daemon, "errors_total", lambda errors: errors >= 2)
    assert daemon.messages() == ["not connected, trying again"]
    async with RecordedNetwork(recording("basic"), port=port) as served:
        await until_cursor(redis, served)
    assert await daemon.end() == 0


async def test_without_labelers_the_daemon_stays_up(redis: Redis, ingester: StartIngester) -> None:
    daemon = await ingester(INGESTER_MODE="labeler", INGESTER_RELAY_HOSTS="bsky.network")
    await until_metric(daemon, "label_live_length", lambda length: length == 0)
    await eventually(daemon.is_ready)
    assert await daemon.end() == 0


async def test_a_finished_listing_does_not_end_the_daemon(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    daemon = await ingester(served, INGESTER_MODE="backfill")
    await until_metric(daemon, "backfill_complete", lambda complete: complete == 1)
    await until_metric(daemon, "repo_backfill_length", lambda length: length == len(served.recording.repos))
    assert await daemon.end() == 0


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("INGESTER_RELAY_HOSTS", "bsky network", "cannot start: INGESTER_RELAY_HOSTS: 'bsky network' is no host"),
        ("INGESTER_BATCHSIZE", "5", "cannot start: settings: INGESTER_BATCHSIZE is unknown"),
        ("REDIS_URL", "redis://127.0.0.1:1", "cannot start: redis does not answer"),
    ],
)
async def test_what_cannot_work_stops_the_start_with_one_line(
    ingester: StartIngester, variable: str, value: str, says: str
) -> None:
    daemon = await ingester(**{variable: value})
    async with asyncio.timeout(30):
        assert await daemon.process.wait() == 2
    assert [line.startswith(says) for line in daemon.lines] == [True]


async def test_a_cursor_that_is_no_number_is_not_guessed_at(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    await redis.set(f"firehose_live:cursor:{host(served)}", "seventeen")
    daemon = await ingester(served)
    async with asyncio.timeout(30):
        assert await daemon.process.wait() == 2
    assert "holds 'seventeen', which is no sequence number" in daemon.lines[-1]
