"""The status of real daemons: as a page, as JSON and in the terminal."""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from common.errors import CannotStart
from sluice.pipeline import Pipeline
from sluice.server import free_port
from sluice.status_page import PAGE, serving
from tests.commands import PATIENCE_SECONDS, ROOT, SLUICE, run, sluice
from tests.waiting import until


async def ask(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(f"{url}status.json") as answer:
        return dict(await answer.json())


async def test_the_page_has_the_numbers_of_the_daemons(deployment: Pipeline) -> None:
    async with serving(deployment.addresses, "127.0.0.1", 0, 0.05) as url, aiohttp.ClientSession() as http:

        async def drained() -> dict[str, Any] | None:
            found = await ask(http, url)
            stream = next((s for s in found["streams"] if s["name"] == "firehose_live"), None)
            written = any(rate for rate in found["history"]["rows"] if rate)
            return found if written and stream and stream["length"] == 0 else None

        found = await until(drained)
        assert [daemon["kind"] for daemon in found["daemons"]] == ["ingester", "indexer"]
        assert all(daemon["ready"] for daemon in found["daemons"])
        assert [host["connected"] for host in found["hosts"]] == [True]
        last = found["history"]["at"][-1]
        async with http.get(f"{url}status.json?after={last}") as answer:
            assert all(at > last for at in (await answer.json())["history"]["at"])
        async with http.get(f"{url}status.json?after=x") as answer:
            assert answer.status == 400
        await deployment.daemons[0].stop()

        async def gone() -> bool:
            return (await ask(http, url))["state"] == "trouble"

        await until(gone)


async def test_a_page_that_cannot_look_any_more_says_so_instead_of_what_it_saw_last() -> None:
    looked = 0

    def targets() -> list[str]:
        nonlocal looked
        looked += 1
        if looked > 1:
            raise RuntimeError("a fault of ours")
        return ["127.0.0.1:1"]

    async def fails() -> bool:
        async with http.get(f"{url}status.json") as answer:
            return answer.status == 500

    with pytest.raises(RuntimeError, match="a fault of ours"):
        async with serving(targets, "127.0.0.1", 0, 0.01) as url, aiohttp.ClientSession() as http:
            await until(fails)


async def test_the_page_asks_nobody_else_and_runs_nothing_else() -> None:
    assert re.findall(r"https?://(?!www\.w3\.org/)", PAGE) == []
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", PAGE)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|\son\w+=|style=", PAGE)
    async with serving(lambda: ["127.0.0.1:1"], "127.0.0.1", 0) as url, aiohttp.ClientSession() as http:
        async with http.get(url) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert await answer.text() == PAGE
        assert "default-src 'none'; script-src 'sha256-" in policy
        assert "unsafe" not in policy
        for method in ("POST", "PUT", "DELETE"):
            async with http.request(method, f"{url}status.json") as answer:
                assert answer.status == 405


async def test_it_is_served_and_found_well_as_in_production(deployment: Pipeline, tmp_path: Path) -> None:
    """The command, the environment and the health check of its container, at a port of our own."""
    container = yaml.safe_load((ROOT / "docker-compose.prod.yml").read_text("utf-8"))["services"]["status"]
    port = str(free_port())
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SLUICE_TARGETS": ",".join(deployment.addresses())}
    command = (*SLUICE, *container["command"], "--port", port)
    serving = await asyncio.create_subprocess_exec(*command, stderr=PIPE, cwd=tmp_path, env=environ)
    assert serving.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await serving.stderr.readuntil(b"the status page: ")
        python, *check = (text.replace(":4180/", f":{port}/") for text in container["healthcheck"]["test"][1:])
        assert python == "python"
        assert (await run(sys.executable, *check, folder=tmp_path)).code == 0
        async with aiohttp.ClientSession() as http:

            async def sees_both() -> bool:
                return len((await ask(http, f"http://127.0.0.1:{port}/"))["daemons"]) == 2

            await until(sees_both)
    finally:
        serving.terminate()
        await serving.communicate()
    assert serving.returncode == 130
    assert (await run(sys.executable, *check, folder=tmp_path)).code == 1


async def test_a_taken_port_is_a_clear_refusal_where_it_was_asked_for() -> None:
    async with serving(list, "127.0.0.1", 0) as url:
        port = int(url.rpartition(":")[2].strip("/"))
        with pytest.raises(CannotStart, match=f"port {port}: .*--port"):
            async with serving(list, "127.0.0.1", port):
                pass


async def test_the_command_says_it_in_the_terminal(deployment: Pipeline, tmp_path: Path) -> None:

    async def written() -> int:
        return (await deployment.metrics(["indexer"]))["indexer_db_writes_total"]

    await until(written)
    targets = [word for address in deployment.addresses() for word in ("--target", address)]
    ended = await sluice("status", *targets, "--json", folder=tmp_path)
    assert (ended.code, ended.error) == (1, ""), "the recording is old, so its rows are behind"
    assert json.loads(ended.out)["state"] == "behind"
    ended = await sluice("status", *targets, folder=tmp_path)
    assert ended.code == 1
    assert re.search(r"firehose_live +\d", ended.out)
    assert re.search(r"indexer +127\.0\.0\.1:\d+ +ready", ended.out)


async def test_where_no_daemon_answers_the_command_says_how_to_name_them(tmp_path: Path) -> None:
    ended = await sluice("status", "--target", "127.0.0.1:1", folder=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "127.0.0.1:1 does not answer" in ended.error
    assert "SLUICE_TARGETS" in ended.error


async def test_top_goes_on_until_it_is_told_to_stop(deployment: Pipeline, tmp_path: Path) -> None:
    targets = [word for address in deployment.addresses() for word in ("--target", address)]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    process = await asyncio.create_subprocess_exec(*SLUICE, "top", *targets, stdout=PIPE, cwd=tmp_path, env=environ)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        seen = await process.stdout.readuntil(b"rows written")
        seen += await process.stdout.readuntil(b"rows written")
        process.send_signal(signal.SIGINT)
        await process.stdout.read()
        assert await process.wait() == 130
    assert b"events from the network" in seen
    assert b"firehose_live" in seen
