"""How a command ends: its exit code, and what it says when it cannot go on."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

import typer

from common.errors import CannotStart
from sluice.processes import DaemonFailed


def ended_by(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Ends the process: 0, 1 if something is not as it should be, 2 if it cannot start like this, 130 after Ctrl-C."""
    try:
        code = asyncio.run(_interruptible(work))
    except CannotStart as refusal:
        sys.stderr.write(f"cannot start: {refusal}\n")
        code = 2
    except DaemonFailed as failure:
        sys.stderr.write(f"{failure}\n")
        code = 1
    raise typer.Exit(code)


async def _interruptible(work: Coroutine[Any, Any, int]) -> int:
    """SIGTERM ends like Ctrl-C: everything that was started is stopped first."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 130
