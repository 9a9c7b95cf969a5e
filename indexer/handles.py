"""Handles, looked up off the hot path: what the DID document names must lead back to the DID."""

import logging

from common.errors import BadInput, GiveUp, TryLater
from common.identity import Identities
from common.retry import jittered
from indexer import metrics
from indexer.database import Database
from indexer.due import Check, postpone, settle
from indexer.handle_resolver import HandleResolver

log = logging.getLogger(__name__)

TABLE = "handle_check"
LONGEST_WAIT_SECONDS = 24 * 3600.0


class HandleLookup:
    """Settles one handle check: the actor's handle, or none where the two sides do not agree."""

    def __init__(self, database: Database, identities: Identities, resolver: HandleResolver) -> None:
        self._database = database
        self._identities = identities
        self._resolver = resolver

    async def look(self, check: Check) -> None:
        try:
            handle = await self._verified_handle(check.did)
        except (TryLater, BadInput, GiveUp) as failure:
            wait = jittered(check.attempts + 1, 10.0, LONGEST_WAIT_SECONDS)
            log.info("handle not looked up", extra={"did": check.did, "error": str(failure), "seconds": wait})
            async with self._database.transaction() as session:
                await postpone(session, TABLE, check, wait)
            metrics.ACCOUNT_TASKS.labels("handle", "failed").inc()
            return
        await self.write(check, handle)
        metrics.ACCOUNT_TASKS.labels("handle", "verified" if handle else "unverified").inc()

    async def write(self, check: Check, handle: str | None) -> None:
        """A handle that somebody else still holds goes to the one for whom it verifies now."""
        async with self._database.transaction() as session:
            await session.fetch(_CLAIM, handle)
            await settle(session, TABLE, check)  # a batch, too, locks checks before actors
            await session.fetch(_LOCK, check.did, handle)
            await session.execute(_TAKE, check.did, handle)
            await session.execute(_GIVE, check.did, handle, check.time)

    async def _verified_handle(self, did: str) -> str | None:
        document = await self._identities.resolve(did, refresh=True)
        if not document.handle:
            return None
        handle = document.handle.lower()
        return handle if await self._resolver.did_of(handle) == did else None


# of several who are given one handle the next sees that the one before holds it; released with the transaction
_CLAIM = "SELECT pg_advisory_xact_lock(hashtextextended('sluice handle ' || $1, 0))"
# in one order for all, or two who swap their handles would wait for each other
_LOCK = "SELECT did FROM {app}.actor WHERE did = $1 OR handle = $2 ORDER BY did FOR UPDATE"
_TAKE = "UPDATE {app}.actor SET handle = NULL WHERE handle = $2 AND did <> $1"
_GIVE = 'UPDATE {app}.actor SET handle = $2, "indexedAt" = $3 WHERE did = $1'
