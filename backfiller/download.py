"""getRepo from the PDS of an account: its bytes, or why there are none (spec: com.atproto.sync.getRepo)."""

import asyncio
from urllib.parse import quote

from backfiller.hosts import Hosts
from common.errors import GiveUp, TryLater
from common.outbound import Budget, OnBytes, Outbound, Refused

# answers that are no fault: the repo is not to be had, and asking again does not help
ABSENT = {
    "RepoNotFound": "repo_not_found",
    "RepoTakendown": "repo_takendown",
    "RepoSuspended": "repo_suspended",
    "RepoDeactivated": "repo_deactivated",
}
REST_SECONDS = 30.0  # for a host that wants to be left alone and does not say how long


class Downloads:
    """Fetches repos: no more at once from each PDS than `hosts` allows, and `at_once` from all of them."""

    def __init__(self, outbound: Outbound, hosts: Hosts, budget: Budget, *, at_once: int, max_car_bytes: int) -> None:
        self._outbound = outbound
        self._hosts = hosts
        self._slots = asyncio.Semaphore(at_once)
        self._budget = budget
        self._max_car_bytes = max_car_bytes

    async def car(self, pds: str, did: str, on_bytes: OnBytes) -> bytes:
        """The repo as it came, unverified. `on_bytes` hears how much has come, and may raise.

        Raises GiveUp (the values of ABSENT), and what Hosts.turn and Outbound.download raise.
        """
        url = f"{pds}/xrpc/com.atproto.sync.getRepo?did={quote(did)}"
        async with self._hosts.turn(pds), self._slots:  # in this order: who waits for its host keeps no one's slot
            try:
                return await self._outbound.download(url, self._max_car_bytes, self._budget, on_bytes=on_bytes)
            except Refused as refused:
                if refused.error not in ABSENT:
                    raise
                raise GiveUp(ABSENT[refused.error], did) from refused
            except TryLater as error:
                if error.reason == "rate_limited" or (error.reason == "server_error" and error.seconds):
                    self._hosts.rest(pds, REST_SECONDS if error.seconds is None else error.seconds)
                raise
