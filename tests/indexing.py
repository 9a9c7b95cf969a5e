"""Events straight into the tables, by the way that the indexer takes them there, without streams."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from common.events import LabelEvent, StreamEvent
from indexer.database import Database
from indexer.work import EventWork, LabelWork
from tests.factories import delivery
from tests.rows import Rows, all_rows, table_rows

STREAM = "firehose_live"


class Index:
    """A database and what fills it."""

    def __init__(self, pool: asyncpg.Pool, url: str) -> None:
        self.pool = pool
        self.url = url
        self.database = Database(pool, "bsky")
        self._events, self._labels = EventWork(self.database), LabelWork(self.database)

    async def apply(self, *events: StreamEvent) -> None:
        """As one batch."""
        await self._take(self._events, events)

    async def apply_labels(self, *events: LabelEvent) -> None:
        await self._take(self._labels, events)

    async def apply_each(self, events: Sequence[StreamEvent]) -> None:
        """Each as a batch of its own."""
        for event in events:
            await self.apply(event)

    async def rows(self, table: str, *columns: str) -> list[Any]:
        return await table_rows(self.pool, table, *columns)

    async def everything(self, **options: Any) -> Rows:
        return await all_rows(self.pool, **options)

    async def rolled_back(self) -> int:
        """Transactions rolled back until now, by any connection of the pool: all must be idle."""
        async with AsyncExitStack() as stack:
            for _ in range(self.pool.get_idle_size()):
                connection = await stack.enter_async_context(self.pool.acquire())
                await connection.fetch("SELECT pg_stat_force_next_flush()")
        statement = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        return int(await self.pool.fetchval(statement))

    async def count(self, table: str, column: str, key: str) -> int | None:
        """What an aggregate counts for a record or a person; None if it has no row."""
        name = "uri" if table == "post_agg" else "did"
        found: int | None = await self.pool.fetchval(f'SELECT "{column}" FROM bsky.{table} WHERE {name} = $1', key)
        return found

    @staticmethod
    async def _take(work: Any, events: Sequence[Any]) -> None:
        items = [work.decode(delivery(event)) for event in events]
        for portion in work.portions(items):
            prepared = await work.prepare(portion)
            await work.apply(prepared, STREAM)
            await work.settle(prepared, STREAM)
