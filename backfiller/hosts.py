"""How many repos at once from each PDS, so that no host, slow or popular, takes the slots of all others."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from common.errors import BadInput, GiveUp, TryLater

LONGEST_WAIT_SECONDS = 3600.0
MAX_REMEMBERED = 10_000
EAGERNESS = 0.8  # return times lie a little closer than turns end, for it is better to queue than to idle
Permit = Callable[[str, bool], Awaitable[None]]


@dataclass(slots=True)
class _Host:
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    at_once: int = 1
    begun: list[float] = field(default_factory=list)  # when the turns that are not over began, oldest first
    seated: int = 0
    mean_seconds: float = 0.05
    promised_until: float = 0.0


class Hosts:
    """Each host has `at_once` turns, and a few more seats for who waits for one; as many again for what is urgent.

    It has one turn until it has answered: many hosts that do not would take the slots of all others together.

    Whoever finds the seats taken is sent away with a time to come back at. These times follow one another as fast as
    the host has been so far; what is urgent comes back before them.
    """

    def __init__(
        self,
        at_once: int,
        seats: int,
        permit: Permit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seats` counts those whose turn it is, too. `permit` has the last word on a turn, and may raise."""
        self._at_once = at_once
        self._seats = max(seats, at_once)
        self._permit = permit
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, name: str, *, urgent: bool = False) -> AsyncIterator[None]:
        """Raises TryLater("host_busy"), with the seconds to come back after, and what `permit` raises."""
        host = self._host(name)
        if host.seated >= self._seats * (2 if urgent else 1):
            raise self._later(name, host, urgent)
        host.seated += 1
        try:
            async with host.turns:
                await self._permit(name, urgent)
                started = self._clock()
                host.begun.append(started)
                try:
                    yield
                except (BadInput, GiveUp):
                    self._open(host)
                    raise
                else:
                    self._open(host)
                finally:
                    host.begun.remove(started)
                    host.mean_seconds += (self._clock() - started - host.mean_seconds) / 5
        finally:
            host.seated -= 1

    def _open(self, host: _Host) -> None:
        for _ in range(self._at_once - host.at_once):
            host.turns.release()
        host.at_once = self._at_once

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            if len(self._hosts) >= MAX_REMEMBERED:
                self._forget_idle()
            self._hosts[name] = _Host()
        return self._hosts[name]

    def _forget_idle(self) -> None:
        now = self._clock()
        self._hosts = {name: host for name, host in self._hosts.items() if host.seated or host.promised_until > now}

    def _later(self, name: str, host: _Host, urgent: bool) -> TryLater:
        now = self._clock()
        # a host that hangs is known by the turn that is not over, long before there is a mean to tell
        turn_seconds = max(host.mean_seconds, now - host.begun[0] if host.begun else 0.0)
        if urgent:
            return TryLater("host_busy", name, turn_seconds)
        pace = EAGERNESS * turn_seconds / host.at_once
        host.promised_until = max(now, host.promised_until) + pace
        return TryLater("host_busy", name, min(host.promised_until - now, LONGEST_WAIT_SECONDS))
