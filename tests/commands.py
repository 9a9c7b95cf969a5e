"""Commands as a person or a supervisor runs them, and what they leave behind."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SLUICE = (sys.executable, "-c", "from sluice.cli import main; main()")
PATIENCE_SECONDS = 100


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    error: str

    @property
    def result(self) -> dict[str, Any]:
        """What `--json` ends with."""
        return dict(json.loads(self.out))


async def run(*command: str, folder: Path, environ: Mapping[str, str] | None = None) -> Ended:
    """Until it has ended by itself; its temporary files, if it makes any, are in `folder`."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "COLUMNS": "200", **(environ or {})},
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode or 0, out.decode(), error.decode())


async def sluice(*arguments: str, folder: Path, environ: Mapping[str, str] | None = None) -> Ended:
    return await run(*SLUICE, *arguments, folder=folder, environ=environ)


async def daemon(module: str, folder: Path, environ: Mapping[str, str]) -> Ended:
    return await run(sys.executable, "-m", module, folder=folder, environ={"METRICS_PORT": "0", **environ})


def leftovers(folder: Path) -> list[str]:
    """Files in the folder, and processes that run in it or are told about it."""
    files = [str(path) for path in folder.iterdir()]
    return files + [command for pid, command in _processes() if str(folder) in command and pid != os.getpid()]


def pid_of(module: str, folder: Path) -> int:
    """The one daemon of this kind that runs in the folder."""
    (pid,) = [
        pid for pid, command in _processes() if command.startswith(f"{folder} ") and command.endswith(f" -m {module} ")
    ]
    return pid


def _processes() -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append((int(entry.name), f"{(entry / 'cwd').readlink()} {command}"))
    return found
