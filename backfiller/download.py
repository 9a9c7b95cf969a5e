"""getRepo from the PDS of an account: its bytes, or why there are none (spec: com.atproto.sync.getRepo)."""

import asyncio
import time
from collections.abc import Mapping
from urllib.parse import quote

from backfiller.hosts import Hosts
from backfiller.permits import Permits
from backfiller.spool import Spool
from common.errors import BadInput, GiveUp, TryLater
from common.outbound import Budget, Outbound, Refused
from common.rate_limits import RateLimit, rate_limit

# answers that are no fault: the repo is not to be had, and asking again does not help
ABSENT = {
    "RepoNotFound": "repo_not_found",
    "RepoTakendown": "repo_takendown",
    "RepoSuspended": "repo_suspended",
    "RepoDeactivated": "repo_deactivated",
}
REST_SECONDS = 30.0  # for a host that wants to be left alone and does not say how long
SIGNS_OF_ILLNESS = ("unreachable", "timeout", "server_error")


class Downloads:
    """Fetches repos: no more at once from each PDS than `hosts` allows, and `at_once` from all of them.

    With `urgent` their hosts put nobody else before them.
    """

    def __init__(
        self,
        outbound: Outbound,
        hosts: Hosts,
        permits: Permits,
        budget: Budget,
        *,
        at_once: int,
        max_car_bytes: int,
        urgent: bool = False,
    ) -> None:
        self._outbound = outbound
        self._hosts = hosts
        self._permits = permits
        self._slots = asyncio.Semaphore(at_once)
        self._budget = budget
        self._max_car_bytes = max_car_bytes
        self._urgent = urgent

    async def car(self, pds: str, did: str, spool: Spool) -> None:
        """The repo as it comes, unverified, into the spool, which is emptied before.

        Raises GiveUp (the values of ABSENT), and what Hosts.turn and Outbound.download_into raise.
        """
        spool.clear()
        url = f"{pds}/xrpc/com.atproto.sync.getRepo?did={quote(did)}"
        # in this order: who waits for its host keeps no one's slot
        async with self._hosts.turn(pds, urgent=self._urgent), self._slots:
            try:
                await self._told(pds, url, spool)
            except Refused as refused:
                if refused.error not in ABSENT:
                    raise
                raise GiveUp(ABSENT[refused.error], did) from refused

    async def _told(self, pds: str, url: str, spool: Spool) -> None:
        """Download, and tell all backfillers how the host took it."""
        limit: RateLimit | None = None
        started = time.monotonic()

        def hear(headers: Mapping[str, str]) -> None:
            nonlocal limit
            limit = rate_limit(headers, time.time())

        rest: float | None = None
        try:
            await self._outbound.download_into(spool, url, self._max_car_bytes, self._budget, on_headers=hear)
        except TryLater as error:
            if error.reason == "rate_limited" or (error.reason == "server_error" and error.seconds):
                rest = REST_SECONDS if error.seconds is None else error.seconds
            elif error.reason in SIGNS_OF_ILLNESS:
                await self._permits.failed(pds)
                raise
            await self._permits.answered(pds, time.monotonic() - started, limit, rest)
            raise
        except (BadInput, GiveUp):
            await self._permits.answered(pds, time.monotonic() - started, limit, None)
            raise
        await self._permits.answered(pds, time.monotonic() - started, limit, None)
