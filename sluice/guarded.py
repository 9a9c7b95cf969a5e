"""Starts a program under a guard, which ends it when we end, however that comes about."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

GUARD = Path(__file__).with_name("guard.py")


def guarded(
    commands: Sequence[Sequence[str]],
    folder: Path,
    log: IO[bytes],
    stop_signal: signal.Signals,
    *,
    user: str | None = None,
    temporary: bool = False,
    environ: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """The guard's process; the program stops when its standard input is closed. What both say goes to `log`.

    The last command is the program, those before it prepare it. `user`: who runs it, None for ourselves; `temporary`:
    the folder goes with it; `environ`: all that it is told, or what we are told.
    """
    task = {
        "commands": commands,
        "user": user,
        "stop_signal": stop_signal,
        "folder": str(folder),
        "temporary": temporary,
    }
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARD), json.dumps(task)],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env=environ,
        start_new_session=True,  # Ctrl-C is meant for us: we end what runs, in order
    )
