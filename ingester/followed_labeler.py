"""A labeler by its DID: read where its document says that it lives, and followed when it moves (spec: label)."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from common.daemon import Service, run_until, stopped_within
from common.errors import BadInput, GiveUp, TryLater
from common.identity import Identities
from common.redis_connection import outlast
from common.retry import Backoff
from ingester.accounts import Account
from ingester.upstream import Upstream, upstream_of

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 60.0
RECHECK_SECONDS = 300.0

# KEYS: cursor, host that it counts at. ARGV: host. Numbers belong to the host that gave them.
_ARRIVE = """
local before = redis.call('GET', KEYS[2])
if before == ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
if not before then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""
log = logging.getLogger(__name__)


class FollowedLabeler:
    """A service. At a new host the labels are read from the first one on: what is known already changes nothing."""

    def __init__(
        self,
        redis: Redis,
        identities: Identities,
        did: str,
        *,
        cursor_key: str,
        account: Account,
        read_at: Callable[[Upstream], Service],
    ) -> None:
        """`identities` must know labelers: one without a shared cache. `read_at` may raise BadInput."""
        self._identities = identities
        self._did = did
        self._keys = [cursor_key, f"ingester:labeler-host:{did}"]
        self._account = account
        self._read_at = read_at
        self._arrive = redis.register_script(_ARRIVE)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            found = await self._home(stop)
            if found is None:
                return
            home, service = found
            if await self._arrived(home, stop):
                await self._read(home, service, stop)

    async def _arrived(self, home: Upstream, stop: asyncio.Event) -> bool:
        """False if the daemon was told to stop first."""
        moved: Any = await outlast(stop, lambda: self._arrive(keys=self._keys, args=[home.host]))
        fields = {"did": self._did, "host": home.host, "from_the_first_label": bool(moved)}
        log.info("labeler found", extra=fields)
        return moved is not None

    async def _read(self, home: Upstream, service: Service, stop: asyncio.Event) -> None:
        """Until it has moved. While nobody can say where it is, it is where it was."""
        moved = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(home, moved))
            try:
                await run_until(service, stop, moved)
            finally:
                moved.set()  # not cancelled: a cancellation may be lost on its way, before Python 3.12

    async def _watch(self, home: Upstream, moved: asyncio.Event) -> None:
        while not await stopped_within(moved, RECHECK_SECONDS):
            now = await self._looked_up()
            if isinstance(now, Upstream) and now != home:
                moved.set()

    async def _home(self, stop: asyncio.Event) -> tuple[Upstream, Service] | None:
        """Where it is, and what reads it there; None if the daemon was told to stop first."""
        backoff = Backoff(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        while not stop.is_set():
            found = await self._looked_up()
            try:
                if isinstance(found, Upstream):
                    return found, self._read_at(found)
            except BadInput as bad:
                found = str(bad)
            self._account.error("no_did_document")
            if not backoff.failures:
                log.warning("the labeler's host is not known, waiting", extra={"did": self._did, "detail": found})
            await stopped_within(stop, backoff.next_seconds())
        return None

    async def _looked_up(self) -> Upstream | str:
        """Where it is, or why that is not known."""
        try:
            document = await self._identities.resolve(self._did, refresh=True)
            if document.labeler is None:
                return "its DID document names no labeler"
            return upstream_of(document.labeler)
        except (BadInput, GiveUp, TryLater) as failure:
            return str(failure)[:200]
