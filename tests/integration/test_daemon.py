"""The life of a daemon, as whoever started it sees it: signals in, exit codes and one clear line out."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.daemon import run_daemon, stopped_within

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
from common.daemon import entrypoint, run_daemon, stopped_within
from common.errors import CannotStart

async def finishes(stop):
    print("ready", flush=True)
    await stop.wait()
    print("finishing", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print("finished", flush=True)

async def outstays(stop):
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled", flush=True)

async def short(stop):
    print("short", flush=True)

async def fails(stop):
    await stopped_within(stop, 0.01)
    raise ZeroDivisionError("ours")

async def refuses(stop):
    raise CannotStart("a cursor is no number; delete it")

async def main():
    grace, *services = sys.argv[1:]
    await run_daemon(*(globals()[name] for name in services), grace_seconds=float(grace))

entrypoint(main)
"""


@asynccontextmanager
async def started(*services: str, grace_seconds: float = 60.0) -> AsyncIterator[Process]:
    """What these have in hand is finished when standard input ends."""
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(grace_seconds), *services),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=environ,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: Process) -> str:
    assert process.stdout
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


async def end(process: Process) -> tuple[int, str, str]:
    """Exit code, what was printed since, and what was said on standard error."""
    out, error = await asyncio.wait_for(process.communicate(b""), 60)
    return process.returncode or 0, out.decode(), error.decode()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_finishes_what_is_in_hand_and_exits_0(signum: signal.Signals) -> None:
    async with started("finishes") as process:
        assert await line(process) == "ready"
        process.send_signal(signum)
        assert await line(process) == "finishing"
        code, out, error = await end(process)
    assert (code, out.split()) == (0, ["finished"])
    assert "Traceback" not in error


async def test_what_outstays_the_grace_is_cancelled_and_that_is_no_failure() -> None:
    async with started("finishes", "outstays", grace_seconds=0.3) as process:
        assert [await line(process) for _ in range(2)] == ["ready", "ready"]
        assert process.stdin
        process.stdin.close()
        process.send_signal(signal.SIGTERM)
        code, out, _ = await end(process)
    assert (code, out.split()) == (0, ["finishing", "finished", "cancelled"])


async def test_a_service_that_fails_ends_the_daemon_with_1() -> None:
    async with started("outstays", "fails") as process:
        code, out, error = await end(process)
    assert (code, out.split()) == (1, ["ready", "cancelled"])
    assert "ZeroDivisionError: ours" in error


async def test_a_refusal_to_start_is_one_line_and_2() -> None:
    async with started("outstays", "refuses") as process:
        code, _, error = await end(process)
    assert (code, error) == (2, "cannot start: a cursor is no number; delete it\n")


async def test_a_service_that_is_done_leaves_the_others_alone() -> None:
    async with started("short", "finishes") as process:
        assert {await line(process), await line(process)} == {"short", "ready"}
        process.send_signal(signal.SIGTERM)
        assert (await end(process))[0] == 0


async def test_a_daemon_whose_services_are_all_done_ends_with_0() -> None:
    async with started("short") as process:
        assert await end(process) == (0, "short\n", "")


async def test_after_a_failure_even_a_service_that_missed_its_cancellation_ends() -> None:
    async def misses(stop: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await stop.wait()

    async def fails(_: asyncio.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as failure:
        async with asyncio.timeout(60):
            await run_daemon(misses, fails, grace_seconds=60)
    assert failure.group_contains(ZeroDivisionError)


async def test_a_wait_ends_when_told_to_stop() -> None:
    stop = asyncio.Event()
    assert not await stopped_within(stop, 0.01)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(stopped_within(stop, 3600))
        stop.set()
        assert await waiting
    assert await stopped_within(stop, 3600)
