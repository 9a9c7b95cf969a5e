"""Whether Postgres answers, and how much of the pool is taken."""

import asyncio

import asyncpg

from common.daemon import stopped_within
from common.dependencies import answering
from indexer.metrics import POOL
from indexer.refusals import ERRORS, Verdict, verdict

INTERVAL_SECONDS = 5.0


class PoolGauges:
    """Service: looks at the pool every few seconds, and asks Postgres where a connection is free to ask with.

    A pool that is all taken says nothing about Postgres, so what is known of it stands as it was.
    """

    def __init__(self, pool: asyncpg.Pool, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            opened, idle = self._pool.get_size(), self._pool.get_idle_size()
            unopened = self._pool.get_max_size() - opened
            for state, connections in (("busy", opened - idle), ("idle", idle), ("unopened", unopened)):
                POOL.labels(state).set(connections)
            if idle or unopened:
                await self._ask()
            await stopped_within(stop, self._interval_seconds)

    async def _ask(self) -> None:
        try:
            with answering("postgres"):
                async with asyncio.timeout(self._interval_seconds):
                    await self._pool.fetchval("SELECT 1")
        except ERRORS as error:
            if verdict(error) is not Verdict.WAIT:
                raise
