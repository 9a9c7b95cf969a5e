"""What a daemon tells: its pages over HTTP, its log lines, and what the streams look like."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import aiohttp
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from common import telemetry
from common.errors import CannotStart
from common.redis_connection import open_redis
from common.stream_gauges import StreamGauges, StreamSample, watched
from common.streams import StreamConsumer
from common.telemetry import Health, log_as_json, serve_metrics
from sluice.server import free_port
from tests.proxy import Proxy
from tests.waiting import until

GAUGES = ("length", "group_lag", "group_pending", "group_oldest_pending_age_seconds")


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@contextmanager
def serving(health: Health) -> Iterator[str]:
    """The pages, at this URL."""
    port = free_port()
    end = serve_metrics(port, health, "127.0.0.1")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        end()


async def status(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as answer:
        return answer.status


# pages


async def test_a_daemon_is_ready_from_its_first_beat_to_its_end(
    http: aiohttp.ClientSession, stop: asyncio.Event
) -> None:
    health = Health()
    with serving(health) as url:
        assert [await status(http, f"{url}/{page}") for page in ("healthz", "readyz")] == [200, 503]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(health.beat(stop))
            await until(lambda: health.ready)
            assert [await status(http, f"{url}/{page}") for page in ("healthz", "readyz")] == [200, 200]
            stop.set()
        assert [await status(http, f"{url}/{page}") for page in ("healthz", "readyz")] == [200, 503]


async def test_a_loop_that_stands_still_is_neither_alive_nor_ready(
    http: aiohttp.ClientSession, stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = Health()
    health.ready = True
    with serving(health) as url:
        assert [await status(http, f"{url}/{page}") for page in ("healthz", "readyz")] == [200, 200]
        monkeypatch.setattr(telemetry, "STALLED_SECONDS", 0.0)
        assert [await status(http, f"{url}/{page}") for page in ("healthz", "readyz")] == [503, 503]


async def test_a_busy_loop_still_answers() -> None:
    with serving(Health()) as url:
        fetch = f"import urllib.request; print(urllib.request.urlopen({url + '/healthz'!r}, timeout=60).status)"
        answer = subprocess.run([sys.executable, "-c", fetch], capture_output=True, timeout=60, check=True)  # noqa: ASYNC221 - the loop is what must not turn
        assert answer.stdout.strip() == b"200"


async def test_metrics_are_served_as_prometheus_reads_them(http: aiohttp.ClientSession) -> None:
    with serving(Health()) as url:
        async with http.get(f"{url}/metrics?name=x") as answer:
            assert answer.content_type == "text/plain"
            text = await answer.text()
            assert int(answer.headers["Content-Length"]) == len(text.encode())
        assert 'sluice_log_messages_total{level="ERROR"}' in text
        assert await status(http, f"{url}/other") == 404


def test_a_taken_port_is_a_clear_refusal() -> None:
    with serving(Health()) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(CannotStart, match=f"metrics port {port}: .*METRICS_PORT"):
            serve_metrics(port, Health(), "127.0.0.1")


def test_port_0_is_no_port() -> None:
    serve_metrics(0, Health())()


# the log


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """The lines logged so far."""
    stream = io.StringIO()
    root, before, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    monkeypatch.setattr(sys, "stderr", stream)
    log_as_json("info")
    yield lambda: stream.getvalue().split("\n")[:-1]
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_is_one_json_object_whatever_the_network_put_in(log: Callable[[], list[str]]) -> None:
    text = 'a\r\nlevel: ERROR \x1b[31m\u2028"\\'
    logging.getLogger("x").warning("buried %s", text, extra={"entry": b"1-0", "error": text, "seconds": 1.5})
    (line,) = log()
    assert not any(character < " " for character in line)
    found = json.loads(line)
    assert (found["message"], found["error"], found["seconds"]) == (f"buried {text}", text, 1.5)
    assert (found["level"], found["logger"], found["entry"]) == ("WARNING", "x", "b'1-0'")
    assert found["time"].endswith("Z")


def test_a_fault_is_logged_with_where_it_came_from_in_the_same_line(log: Callable[[], list[str]]) -> None:
    try:
        raise ZeroDivisionError("ours")
    except ZeroDivisionError:
        logging.getLogger("x").exception("failed")
    (line,) = log()
    assert "ZeroDivisionError: ours" in json.loads(line)["error"]


def test_lines_are_counted_by_level_and_those_below_are_left_out(log: Callable[[], list[str]]) -> None:
    before = REGISTRY.get_sample_value("sluice_log_messages_total", {"level": "ERROR"}) or 0
    for level in (logging.DEBUG, logging.ERROR, logging.ERROR):
        logging.getLogger("x").log(level, "said")
    assert len(log()) == 2
    assert REGISTRY.get_sample_value("sluice_log_messages_total", {"level": "ERROR"}) == before + 2


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(CannotStart, match="LOG_LEVEL: 'loud'"):
        log_as_json("loud")


# the streams


def shown(stream: str, group: str) -> list[float | None]:
    """What is exported of a stream."""
    samples = [REGISTRY.get_sample_value("sluice_stream_length", {"stream": stream})]
    for name in GAUGES[1:]:
        samples.append(REGISTRY.get_sample_value(f"sluice_stream_{name}", {"stream": stream, "group": group}))
    return samples


async def test_a_stream_shows_its_length_its_lag_and_its_oldest_work(redis: Redis, stop: asyncio.Event) -> None:
    for number in range(5):
        await redis.xadd("events", {"event": "x"}, id=f"{int(time.time() * 1000) - 90_000}-{number}")
    consumer = StreamConsumer(redis, "events", "group", "one", field="event", batch_size=3)
    assert await anext(consumer.batches(stop))
    seen: list[dict[str, StreamSample]] = []
    gauges = StreamGauges(redis, {"events": "group"}, interval_seconds=0.01, on_sample=lambda it: seen.append(dict(it)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gauges.run(stop))
        await until(lambda: seen)
        stop.set()
    length, lag, pending, age = shown("events", "group")
    assert (length, lag, pending) == (5, 2, 3)
    assert age is not None
    assert 85 < age < 200
    assert (seen[0]["events"].length, seen[0]["events"].lag) == (5, 2)
    assert (REGISTRY.get_sample_value("sluice_stream_sample_timestamp_seconds") or 0) > time.time() - 100


async def test_a_stream_without_a_group_has_nothing_pending(redis: Redis, stop: asyncio.Event) -> None:
    await redis.xadd("events", {"event": "x"})
    seen: list[dict[str, StreamSample]] = []
    groups = {"events": "nobody", "none": "nobody", **watched(["written"])}
    gauges = StreamGauges(redis, groups, interval_seconds=0.01, on_sample=lambda it: seen.append(dict(it)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gauges.run(stop))
        await until(lambda: seen)
        stop.set()
    assert seen[0]["events"] == StreamSample(1, 0, 0.0)
    assert seen[0]["none"] == seen[0]["written"] == StreamSample(0, 0, 0.0)
    assert shown("events", "nobody") == [1, 1, 0, 0]
    assert shown("written", "nobody") == [0, None, None, None]


async def test_what_is_unknown_during_an_outage_is_not_shown(redis: Redis, redis_url: str, stop: asyncio.Event) -> None:
    await redis.xadd("events", {"event": "x"})
    async with Proxy(redis_url) as proxy, open_redis(proxy.url) as shaky, asyncio.TaskGroup() as tasks:
        tasks.create_task(StreamGauges(shaky, {"events": "group"}, interval_seconds=0.01).run(stop))
        await until(lambda: shown("events", "group")[0] == 1)
        proxy.refuse()
        await until(lambda: shown("events", "group") == [None] * 4)
        proxy.accept()
        await until(lambda: shown("events", "group")[0] == 1)
        stop.set()


async def test_a_stream_of_another_kind_is_no_outage(redis: Redis, stop: asyncio.Event) -> None:
    await redis.set("events", "text")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await StreamGauges(redis, {"events": "group"}).run(stop)
