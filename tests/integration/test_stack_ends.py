"""The embedded servers are gone when we are, however we went."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.stack import embedded_postgres, embedded_redis
from tests.embedded_servers import modes_in, open_folder, server_pids
from tests.waiting import until

ROOT = Path(__file__).parents[2]
BOTH_SERVERS = """
import asyncio
from sluice.stack import embedded_postgres, embedded_redis

async def main():
    async with embedded_redis() as redis, embedded_postgres(disposable=True) as postgres:
        print(redis, postgres, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def test_nothing_stays_behind_after_an_exception(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    pids: list[int] = []

    async def failing() -> None:
        async with embedded_redis() as redis, embedded_postgres(disposable=True) as postgres:
            pids.extend(await server_pids(redis, postgres))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    assert len(pids) == 2
    assert not any(map(is_alive, pids))
    assert modes_in(folder) == {}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_nothing_stays_behind_after_a_signal(folder: Path, signum: signal.Signals) -> None:
    with started(folder) as process:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        pids = await server_pids(*line.split())
        assert all(map(is_alive, pids))
        process.send_signal(signum)
        await until(lambda: not any(map(is_alive, pids)) and not list(folder.iterdir()))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
async def test_nothing_stays_behind_after_a_signal_during_the_start(folder: Path, signum: signal.Signals) -> None:
    with started(folder) as process:
        await until(lambda: bool(list(folder.glob("sluice-postgres-*/data.unfinished/base/*"))))
        process.send_signal(signum)
        await until(lambda: not list(folder.iterdir()))


@contextlib.contextmanager
def started(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that runs both servers, its temporary folders being in `folder`."""
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-c", BOTH_SERVERS],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
