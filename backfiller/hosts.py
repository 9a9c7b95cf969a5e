"""How many repos at once from each PDS, so that no host, slow or popular, takes the slots of all others."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from common.errors import TryLater

LONGEST_WAIT_SECONDS = 3600.0
MAX_REMEMBERED = 10_000
EAGERNESS = 0.8  # return times lie a little closer than turns end, for it is better to queue than to idle


@dataclass(slots=True)
class _Host:
    turns: asyncio.Semaphore
    seated: int = 0
    mean_seconds: float = 0.05
    rests_until: float = 0.0
    promised_until: float = 0.0


class Hosts:
    """Each host has `at_once` turns, and a few more seats for who waits for one.

    Whoever finds the seats taken, or the host at rest, is sent away with a time to come back at. These times follow
    one another as fast as the host has been so far.
    """

    def __init__(self, at_once: int, seats: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`seats` counts those whose turn it is, too."""
        self._at_once = at_once
        self._seats = max(seats, at_once)
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Raises TryLater("host_busy") or TryLater("host_at_rest"), with the seconds to come back after."""
        host = self._host(name)
        if host.seated >= self._seats:
            raise self._later("host_busy", name, host)
        host.seated += 1
        try:
            async with host.turns:
                started = self._clock()
                if host.rests_until > started:
                    raise self._later("host_at_rest", name, host)
                try:
                    yield
                finally:
                    host.mean_seconds += (self._clock() - started - host.mean_seconds) / 5
        finally:
            host.seated -= 1

    def rest(self, name: str, seconds: float) -> None:
        """The host asked to be left alone for a while."""
        host = self._host(name)
        host.rests_until = max(host.rests_until, self._clock() + seconds)

    def at_rest(self) -> int:
        """How many hosts are."""
        now = self._clock()
        return sum(host.rests_until > now for host in self._hosts.values())

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            if len(self._hosts) >= MAX_REMEMBERED:
                self._forget_idle()
            self._hosts[name] = _Host(asyncio.Semaphore(self._at_once))
        return self._hosts[name]

    def _forget_idle(self) -> None:
        now = self._clock()
        self._hosts = {
            name: host
            for name, host in self._hosts.items()
            if host.seated or max(host.rests_until, host.promised_until) > now
        }

    def _later(self, reason: str, name: str, host: _Host) -> TryLater:
        now = self._clock()
        pace = EAGERNESS * host.mean_seconds / self._at_once
        host.promised_until = max(now, host.rests_until, host.promised_until) + pace
        return TryLater(reason, name, min(host.promised_until - now, LONGEST_WAIT_SECONDS))
