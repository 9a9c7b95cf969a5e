"""One server started under a guard: in a folder of its own, on a free port, and ready before we go on."""

import asyncio
import fcntl
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from common.errors import CannotStart
from sluice.guarded import guarded

START_SECONDS = 60.0
ATTEMPTS = 3


@dataclass(frozen=True)
class Place:
    """Where a server is to run. `user` is who runs it, None for ourselves; `password` lies in the folder too."""

    home: Path
    port: int
    user: str | None
    password: str


@dataclass(frozen=True)
class Server:
    """What to run, the last command being the server, and how to tell that it is ready: `answers(url)`."""

    url: str
    commands: tuple[tuple[str, ...], ...]
    answers: Callable[[str], Awaitable[bool]]
    stop_signal: signal.Signals


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now; somebody may the next moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(
    name: str,
    folder: Path | None,
    server_at: Callable[[Place], Server],
    *,
    user: str | None,
    port: Callable[[], int],
    temporary_in: Path | None,
) -> AsyncIterator[str]:
    """The URL of a server whose files are in `folder`/`name`, or in a temporary folder that goes with it.

    Another program may take the port before the server does, so there are several attempts. Raises CannotStart.
    """
    for attempt in range(1, ATTEMPTS + 1):
        with _home(name, folder, user, temporary_in) as home, (home / "log").open("ab+") as log:
            _claim(log, home)
            server = server_at(Place(home, port(), user, _password(home, user)))
            written_before = log.tell()
            guard = guarded(server.commands, home, log, server.stop_signal, user=user, temporary=folder is None)
            try:
                if await _is_ready(server, guard, name):
                    yield server.url
                    return
            finally:
                await _stop(guard)
            if attempt == ATTEMPTS:
                raise CannotStart(f"{name} ended at once: {_last_line(log, written_before)}")


def open_to_all(path: Path) -> bool:
    """True if every user of the machine may reach `path`, and enter or run it."""
    resolved = path.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (resolved, *resolved.parents))


@contextmanager
def _home(name: str, folder: Path | None, user: str | None, temporary_in: Path | None) -> Iterator[Path]:
    """The folder of one server, which belongs to the user that runs it."""
    try:
        if folder is None:
            home = Path(tempfile.mkdtemp(prefix=f"sluice-{name}-", dir=temporary_in))
        else:
            home = folder.absolute() / name
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(f"cannot make a folder for {name}: {error}") from error
    try:
        if user is not None:
            _hand_over(home, user)
            if not open_to_all(home.parent):
                raise CannotStart(f"{name} runs as {user}, who cannot enter {home.parent}: choose another folder")
        yield home
    finally:
        if folder is None:
            shutil.rmtree(home, ignore_errors=True)


def _hand_over(path: Path, user: str) -> None:
    try:
        shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
    except (OSError, LookupError) as error:
        raise CannotStart(f"cannot run a server as {user}: {error}; start as an ordinary user") from error


def _claim(log: IO[bytes], home: Path) -> None:
    """Lock the log, which guard and server inherit: the folder is taken until the last of them has ended."""
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CannotStart(f"{home} is in use by another server") from error


def _password(home: Path, user: str | None) -> str:
    """The password of this folder's server: its port is open to every user of the machine."""
    path = home / "password"
    if not path.exists() or not path.stat().st_size:
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
        if user is not None:
            _hand_over(path, user)
    return path.read_text()


async def _is_ready(server: Server, guard: "subprocess.Popen[bytes]", name: str) -> bool:
    """Wait for the first answer of the server; False if it has ended instead."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while guard.poll() is None:
                if await server.answers(server.url):
                    return True
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise CannotStart(f"{name} does not answer within {START_SECONDS:.0f} s") from error
    return False


async def _stop(guard: "subprocess.Popen[bytes]") -> None:
    if guard.stdin is not None:
        guard.stdin.close()
    await asyncio.to_thread(guard.wait)


def _last_line(log: IO[bytes], start: int) -> str:
    log.seek(start)
    return (log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
