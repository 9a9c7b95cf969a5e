"""What a daemon tells of itself over HTTP: whether it lives, is ready and gets on, and its metrics."""

import asyncio
import platform
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY, Counter, Gauge

from common import telemetry
from common.build import commit, version
from common.errors import CannotStart
from common.progress import Progress
from common.telemetry import Health, serve_metrics
from sluice.server import free_port
from tests.waiting import until

IN_HAND = Gauge("test_in_hand", "What the daemon of these tests has in hand.")
DONE = Counter("test_done", "What it has finished.")
BUILD = {"version": version(), "commit": commit(), "python": platform.python_version()}
PROGRESS = Progress(work=("test_in_hand",), done=("test_done_total",), patience_seconds=60.0)


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


async def test_a_daemon_is_ready_from_its_first_beat_to_its_end(
    http: aiohttp.ClientSession, stop: asyncio.Event
) -> None:
    health = Health(PROGRESS)
    with serving(health) as url:
        assert [await status(http, f"{url}/{page}") for page in ("healthz", "readyz")] == [200, 503]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(health.beat(stop))
            await until(lambda: not health.complaint())
            assert [await status(http, f"{url}/{page}") for page in ("healthz", "readyz")] == [200, 200]
            stop.set()
        assert [await status(http, f"{url}/{page}") for page in ("healthz", "readyz")] == [200, 503]


async def test_a_loop_that_stands_still_is_neither_alive_nor_ready(
    http: aiohttp.ClientSession, stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = Health(PROGRESS)
    with serving(health) as url:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(health.beat(stop))
            await until(lambda: not health.complaint())
            assert REGISTRY.get_sample_value("sluice_ready") == 1
            monkeypatch.setattr(telemetry, "STALLED_SECONDS", 0.0)
            assert [await status(http, f"{url}/{page}") for page in ("healthz", "readyz")] == [503, 503]
            assert REGISTRY.get_sample_value("sluice_ready") == 0
            stop.set()


async def test_signs_of_life_say_how_late_the_loop_is(stop: asyncio.Event) -> None:
    def late_over_50_ms() -> float:
        count = REGISTRY.get_sample_value("sluice_event_loop_lag_seconds_count") or 0
        return count - (REGISTRY.get_sample_value("sluice_event_loop_lag_seconds_bucket", {"le": "0.05"}) or 0)

    before = late_over_50_ms()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Health(PROGRESS).beat(stop))
        await asyncio.sleep(0)
        time.sleep(telemetry.BEAT_SECONDS + 0.2)  # noqa: ASYNC251 - the loop is what must not turn
        await until(lambda: late_over_50_ms() > before)
        stop.set()
    assert (REGISTRY.get_sample_value("sluice_heartbeat_timestamp_seconds") or 0) > time.time() - 60


async def test_a_daemon_that_gets_nothing_done_is_alive_and_not_ready(
    http: aiohttp.ClientSession, stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "LOOK_SECONDS", 0.01)
    health = Health(Progress(("test_in_hand",), ("test_done_total",), patience_seconds=0.1))
    IN_HAND.set(1)
    with serving(health) as url:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(health.beat(stop))
            await until(lambda: "nothing got done" in health.complaint())
            assert await status(http, f"{url}/healthz") == 200
            async with http.get(f"{url}/readyz") as answer:
                assert (answer.status, "nothing got done" in await answer.text()) == (503, True)
            IN_HAND.set(0)
            await until(lambda: not health.complaint())
            stop.set()


async def test_the_status_says_what_runs_and_when_each_metric_last_moved(
    http: aiohttp.ClientSession, stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "LOOK_SECONDS", 0.01)
    with serving(Health(PROGRESS)) as url:

        async def told() -> dict[str, Any]:
            async with http.get(f"{url}/status.json") as answer:
                assert answer.content_type == "application/json"
                return dict(await answer.json())

        async def moved() -> float | None:
            return (await told())["categories"].get("test", {}).get("metrics", {}).get("test_done")  # type: ignore[no-any-return]

        found = await told()
        assert (found["version"], found["commit"]) == (version(), commit())
        assert (found["ready"], found["complaint"]) == (False, "starting or stopping")
        await until(lambda: DONE.inc() or moved())
        found = await told()
        assert set(found["categories"]) >= {"dependencies", "process", "streams", "test"}
        assert time.time() - 60 < found["categories"]["test"]["last_moved"] <= time.time()
    assert REGISTRY.get_sample_value("sluice_build_info", BUILD) == 1


async def test_a_busy_loop_still_answers() -> None:
    with serving(Health(PROGRESS)) as url:
        fetch = f"import urllib.request; print(urllib.request.urlopen({url + '/healthz'!r}, timeout=60).status)"
        answer = subprocess.run([sys.executable, "-c", fetch], capture_output=True, timeout=60, check=True)  # noqa: ASYNC221 - the loop is what must not turn
        assert answer.stdout.strip() == b"200"


async def test_metrics_are_served_as_prometheus_reads_them(http: aiohttp.ClientSession) -> None:
    with serving(Health(PROGRESS)) as url:
        async with http.get(f"{url}/metrics?name=x") as answer:
            assert answer.content_type == "text/plain"
            text = await answer.text()
            assert int(answer.headers["Content-Length"]) == len(text.encode())
        assert "\nsluice_ready 0.0\n" in text
        assert await status(http, f"{url}/other") == 404


def test_a_taken_port_is_a_clear_refusal() -> None:
    with serving(Health(PROGRESS)) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(CannotStart, match=f"metrics port {port}: .*METRICS_PORT"):
            serve_metrics(port, Health(PROGRESS), "127.0.0.1")


def test_port_0_is_no_port() -> None:
    serve_metrics(0, Health(PROGRESS))()
