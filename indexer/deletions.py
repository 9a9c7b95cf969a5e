"""Accounts that are said to be deleted: their own PDS is asked, and only then is everything of theirs removed."""

import logging
from datetime import datetime
from urllib.parse import quote

from common.errors import BadInput, GiveUp, TryLater
from common.identity import Identities
from common.outbound import Outbound, Refused
from common.retry import jittered
from common.syntax import tid_at
from indexer import actors, metrics
from indexer.counts import Deltas
from indexer.counts import write as write_counts
from indexer.database import Database, write
from indexer.due import Check, postpone, settle, stands
from indexer.plan import Plan, remove
from indexer.session import Session

log = logging.getLogger(__name__)

TABLE = "deletion_check"
LONGEST_WAIT_SECONDS = 3600.0
MAX_BYTES = 64 << 10


class DeletionCheck:
    """Settles one deletion check."""

    def __init__(self, database: Database, identities: Identities, outbound: Outbound) -> None:
        self._database = database
        self._identities = identities
        self._outbound = outbound

    async def look(self, check: Check) -> None:
        try:
            hosted = await self._is_hosted(check.did)
        except (TryLater, BadInput) as failure:
            log.info("deletion not confirmed", extra={"did": check.did, "error": str(failure)})
            async with self._database.transaction() as session:
                await postpone(session, TABLE, check, jittered(check.attempts + 1, 5.0, LONGEST_WAIT_SECONDS))
            metrics.ACCOUNT_TASKS.labels("deletion", "failed").inc()
            return
        result = "still_hosted"
        async with self._database.transaction() as session:
            if not hosted:
                await lock_account(session, check.did)
                result = "removed" if await stands(session, TABLE, check) else "overtaken"
            if result == "removed":
                await remove_account(session, check.did, check.time)
            await settle(session, TABLE, check)
        metrics.ACCOUNT_TASKS.labels("deletion", result).inc()

    async def _is_hosted(self, did: str) -> bool:
        """A DID without a document, or without a PDS, is gone; so is one that its PDS does not know."""
        try:
            document = await self._identities.resolve(did, refresh=True)
            if not document.pds:
                return False
            url = f"{document.pds}/xrpc/com.atproto.sync.getLatestCommit?did={quote(did)}"
            await self._outbound.get_json(url, MAX_BYTES)
        except Refused as refusal:
            return refusal.error != "RepoNotFound"
        except GiveUp:
            return False
        return True


async def lock_account(session: Session, did: str) -> None:
    """As a batch locks whom it tells of: what is written and told meanwhile comes before this, or after it."""
    await session.fetch("SELECT did FROM {app}.actor_sync WHERE did = $1 FOR UPDATE", did)
    await actors.lock(session, [did])


async def remove_account(session: Session, did: str, time: str) -> None:
    """Every row of this account's, and what was counted for it; its events up to then are refused from now on.

    The account must be locked.
    """
    floor = tid_at(max(0, int(datetime.fromisoformat(time).timestamp() * 1000) * 1000 + 999))
    await session.execute(_FORGET_OWN_THREADS, did)
    wanted = Plan()
    remove(wanted, [row["uri"] for row in await session.fetch("SELECT uri FROM {app}.record WHERE did = $1", did)])
    deltas = Deltas()
    await write(session, wanted, deltas)
    await session.execute(_RAISE_FLOOR, did, floor)
    for statement in _LEFTOVERS:
        await session.execute(statement, did)
    await write_counts(session, deltas)


_RAISE_FLOOR = """
INSERT INTO {own}.repo AS known (did, floor_rev) VALUES ($1, $2)
ON CONFLICT (did) DO UPDATE SET floor_rev = greatest(known.floor_rev, EXCLUDED.floor_rev)
"""
# of the posts that are there, and of those that are gone; an index leads there only by the root
_FORGET_OWN_THREADS = """
DELETE FROM {app}.op_thread_reply WHERE ("rootUri", uri) IN (
  SELECT "replyRoot", uri FROM {app}.post WHERE creator = $1
  UNION
  SELECT root, uri COLLATE "default" FROM {own}.life WHERE uri >= 'at://' || $1 || '/' AND uri < 'at://' || $1 || '0'
)
"""
# checks before their actor, in the order in which batches and lookups lock them
_LEFTOVERS = (
    "DELETE FROM {own}.handle_check WHERE did = $1",
    "DELETE FROM {own}.resync WHERE did = $1",
    "DELETE FROM {app}.actor WHERE did = $1",
    "DELETE FROM {app}.notification WHERE author = $1 OR did = $1",
    "DELETE FROM {own}.tombstone WHERE did = $1",
    "DELETE FROM {own}.life WHERE uri >= 'at://' || $1 || '/' AND uri < 'at://' || $1 || '0'",  # 0 comes after /
    "DELETE FROM {own}.snapshot WHERE did = $1",
)
