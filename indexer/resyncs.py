"""Accounts that came back: their repos are fetched again, for what was written or removed meanwhile was not seen."""

import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.events import JOB_FIELD, RepoJob, encode_event
from common.retry import jittered
from common.streams import REPO_BACKFILL
from indexer import metrics
from indexer.database import Database
from indexer.due import Check, postpone, settle

log = logging.getLogger(__name__)

TABLE = "resync"
LONGEST_WAIT_SECONDS = 300.0


class ResyncQueue:
    """Settles one resync: a job on repo_backfill, at least once."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self._database = database
        self._redis = redis

    async def look(self, check: Check) -> None:
        """The few jobs that come of this wait for no room in the stream."""
        try:
            await self._redis.xadd(REPO_BACKFILL, {JOB_FIELD: encode_event(RepoJob(did=check.did))})
        except (RedisError, OSError) as error:
            log.warning("resync not queued", extra={"did": check.did, "error": str(error)})
            async with self._database.transaction() as session:
                await postpone(session, TABLE, check, jittered(check.attempts + 1, 5.0, LONGEST_WAIT_SECONDS))
            return
        async with self._database.transaction() as session:
            await settle(session, TABLE, check)
        metrics.ACCOUNT_TASKS.labels("resync", "queued").inc()
