"""Daemons as child processes: started with an environment, watched, scraped, and stopped with us however we end."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import aiohttp

from common.errors import CannotStart
from sluice.guarded import guarded
from sluice.samples import Samples

READY_SECONDS = 30.0
POLL_SECONDS = 0.05
# what a daemon needs of our own environment; its settings come from `environ` alone, as in a container
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "PYTHONPATH", "VIRTUAL_ENV")


class DaemonFailed(Exception):
    """A daemon ended that should run; the message is what it said last."""


class DaemonProcess:
    """`python -m MODULE` under a guard, which ends it when we end. Its log goes to a file."""

    def __init__(self, name: str, module: str, environ: Mapping[str, str], port: int, folder: Path) -> None:
        self.name = name
        self.port = port
        self.log = folder / f"{name}.log"
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        command = (sys.executable, "-m", module)
        with self.log.open("ab") as log:
            self._guard = guarded([command], folder, log, signal.SIGTERM, environ={**inherited, **environ})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def check(self) -> None:
        """Raises DaemonFailed if it has ended."""
        if self._guard.poll() is not None:
            raise DaemonFailed(f"{self.name} ended with exit code {self._guard.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:2000] if lines else "it said nothing"

    async def until_ready(self, http: aiohttp.ClientSession) -> None:
        """Raises DaemonFailed, or CannotStart where the daemon itself said so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                while not await self._is_ready(http):
                    if self._guard.poll() == 2:
                        raise CannotStart(f"{self.name}: {self.last_words().removeprefix('cannot start: ')}")
                    self.check()
                    await asyncio.sleep(POLL_SECONDS)
                return
        raise DaemonFailed(f"{self.name} is not ready within {READY_SECONDS:.0f} s: {self.last_words()}")

    async def _is_ready(self, http: aiohttp.ClientSession) -> bool:
        try:
            async with http.get(f"{self.url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def metrics(self, http: aiohttp.ClientSession) -> Samples:
        """What it exports now. Raises DaemonFailed if it has ended."""
        self.check()
        async with http.get(f"{self.url}/metrics") as answer:
            return Samples.of(await answer.text())

    async def stop(self) -> int:
        """Its exit code, after SIGTERM."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        return await asyncio.to_thread(self._guard.wait)
