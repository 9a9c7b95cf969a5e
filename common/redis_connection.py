"""One way to reach Redis: no silent retries, timeouts everywhere, and one answer to "is this an outage?"."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from common.daemon import stopped_within
from common.errors import CannotStart
from common.retry import Backoff

log = logging.getLogger(__name__)
T = TypeVar("T")

BLOCK_SECONDS = 1.0
_OUTAGES = (
    ConnectionError,
    TimeoutError,
    OutOfMemoryError,
    ReadOnlyError,
    MasterDownError,
    TryAgainError,
    OSError,
)
# error codes that redis-py has no class for: a disk that is full, replicas that are missing, a script in the way
_OUTAGE_CODES = {"MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED", "CLUSTERDOWN"}


def open_redis(url: str) -> Redis:
    """A client that never retries by itself: a lost reply to an append would append twice (docs/invariants.md)."""
    try:
        return Redis.from_url(
            url, socket_timeout=BLOCK_SECONDS + 5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)
        )
    except ValueError:
        # what cannot be read is left out: it may be part of a password
        raise CannotStart(
            "REDIS_URL cannot be read; it looks like redis://:PASSWORD@host:6379/0,"
            " with / # ? @ % of a password written as %2F %23 %3F %40 %25"
        ) from None


def is_outage(error: Exception) -> bool:
    """True for what waiting cures; False for what is our own fault."""
    if isinstance(error, AuthenticationError):
        return False
    return isinstance(error, _OUTAGES) or code_of(error) in _OUTAGE_CODES


def code_of(error: Exception) -> str:
    """The protocol's error code, such as NOGROUP: the first word of an error reply."""
    return str(error).partition(" ")[0] if isinstance(error, ResponseError) else ""


async def outlast(
    stop: asyncio.Event, call: Callable[[], Awaitable[T]], on_failure: Callable[[], None] = lambda: None
) -> T | None:
    """The answer of `call`, tried until Redis is back; None if the daemon was told to stop meanwhile.

    Only for calls that may be repeated: a lost reply repeats them. `on_failure` is called for each failed try.
    """
    backoff = Backoff()
    while True:
        try:
            return await call()
        except (*_OUTAGES, ResponseError) as error:
            if not is_outage(error):
                raise
            on_failure()
            if backoff.failures == 0:
                log.warning("redis is away, waiting", extra={"error": str(error)})
        if await stopped_within(stop, backoff.next_seconds()):
            return None


async def outlast_unless_cancelled(call: Callable[[], Awaitable[T]]) -> T:
    """The same for whoever is cancelled when the daemon stops."""

    async def called() -> tuple[T]:
        return (await call(),)  # None would be both an answer and stopped

    found = await outlast(asyncio.Event(), called)
    if found is None or ((task := asyncio.current_task()) and task.cancelling()):
        raise asyncio.CancelledError  # which may be lost on its way, before Python 3.12
    return found[0]


async def check_redis(redis: Redis, *, disposable: bool) -> None:
    """Raises CannotStart unless Redis keeps what it is given: noeviction, and AOF unless the data is disposable."""
    try:
        info: dict[str, Any] = {**await redis.info("memory"), **await redis.info("persistence")}
    except (*_OUTAGES, AuthenticationError, ResponseError) as error:
        raise CannotStart(f"redis does not answer: {str(error).rstrip('.')}; check REDIS_URL") from error
    if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
        raise CannotStart(
            f"redis has maxmemory-policy {policy}, which silently drops whole streams; set it to noeviction"
        )
    if not disposable and not info.get("aof_enabled"):
        raise CannotStart(
            "redis has no append-only file, so a restart would lose events; set appendonly yes"
            " (or DATA_IS_DISPOSABLE=true if losing them does not matter)"
        )
