"""The life of a daemon: run its services, stop them on a signal or on the first failure."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from common.errors import CannotStart

Service = Callable[[asyncio.Event], Coroutine[Any, Any, None]]

log = logging.getLogger(__name__)


def entrypoint(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a daemon's main and leave with its exit code: 0 told to stop, 1 our own fault, 2 it cannot start so."""
    refusal: BaseException | None = None
    collect_garbage_seldom()
    try:
        asyncio.run(main())
    except* CannotStart as refusals:
        refusal = refusals
    if refusal is not None:
        while isinstance(refusal, BaseExceptionGroup):
            refusal = refusal.exceptions[0]
        sys.stderr.write(f"cannot start: {refusal}\n")
        raise SystemExit(2)


def collect_garbage_seldom() -> None:
    """Events are made and dropped by the ten thousand, without cycles: looking for some costs a tenth of our time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def run_daemon(*services: Service, grace_seconds: float) -> None:
    """Run every service until all return, one fails, or the process is told to stop.

    Stopping is a request: a service finishes the batch in its hands. Whatever still runs after the grace
    period is cancelled, and its unacked entries are delivered again. A service that raises stops the daemon:
    the supervisor restarts it, and it goes on from durable state.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(service(stop), name=service.__qualname__) for service in services]
        deadline = group.create_task(_cancel_after_grace(stop, tasks, grace_seconds))
        try:
            await asyncio.wait(tasks)
        finally:
            stop.set()  # a cancellation may be lost on its way: asyncio.wait_for could swallow one before Python 3.12
        deadline.cancel()


async def _cancel_after_grace(stop: asyncio.Event, tasks: list[asyncio.Task[None]], grace_seconds: float) -> None:
    await stop.wait()
    log.info("stopping", extra={"grace_seconds": grace_seconds})
    await asyncio.sleep(grace_seconds)
    for task in tasks:
        if not task.done():
            log.warning("cancelled after the grace period", extra={"service": task.get_name()})
            task.cancel()


async def stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait; True as soon as the daemon is told to stop, False after `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()


async def run_until(service: Service, *signals: asyncio.Event) -> None:
    """Run a service, and tell it to stop at the first of these signals."""
    ending = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(service(ending))
        waiting = [tasks.create_task(each.wait()) for each in signals]
        await asyncio.wait([running, *waiting], return_when=asyncio.FIRST_COMPLETED)
        ending.set()
        await asyncio.wait([running])
        for task in waiting:
            task.cancel()
