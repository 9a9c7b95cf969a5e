"""Work that waits in a table until it is due: claimed for a while, done outside of any transaction, then settled."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from common.daemon import stopped_within
from common.retry import Backoff
from indexer.database import Database
from indexer.refusals import ERRORS, Verdict, verdict
from indexer.session import Session

log = logging.getLogger(__name__)

LEASE_SECONDS = 60
IDLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Check:
    """A DID to look at, for an event of this time."""

    did: str
    time: str
    attempts: int


class DueChecks:
    """Service: takes what is due from a table (did, time, due_at, attempts) of ours and hands it on, many at once.

    A process that dies with a check in hand loses nothing: its lease runs out, and the check is due again.
    """

    def __init__(
        self, database: Database, table: str, look: Callable[[Check], Coroutine[Any, Any, None]], concurrency: int
    ) -> None:
        self._database = database
        self._table = table
        self._look = look
        self._concurrency = concurrency

    async def run(self, stop: asyncio.Event) -> None:
        backoff = Backoff()
        while not stop.is_set():
            try:
                checks = await self._claim()
                async with asyncio.TaskGroup() as group:
                    for check in checks:
                        group.create_task(self._look(check))
                backoff.reset()
            except* ERRORS as errors:
                if any(verdict(error) is not Verdict.WAIT for error in errors.exceptions):
                    raise
                checks = []
                await stopped_within(stop, backoff.next_seconds())
            if not checks:
                await stopped_within(stop, IDLE_SECONDS)

    async def _claim(self) -> list[Check]:
        async with self._database.transaction() as session:
            rows = await session.fetch(_CLAIM.replace("{table}", self._table), self._concurrency, LEASE_SECONDS)
        return [Check(row["did"], row["time"], row["attempts"]) for row in rows]


async def stands(session: Session, table: str, check: Check) -> bool:
    """Whether no event has overtaken it since it was claimed."""
    return bool(
        await session.fetch(f"SELECT 1 FROM {{own}}.{table} WHERE did = $1 AND time = $2", check.did, check.time)
    )


async def settle(session: Session, table: str, check: Check) -> None:
    """Done; unless a newer event asked again meanwhile."""
    await session.execute(f"DELETE FROM {{own}}.{table} WHERE did = $1 AND time = $2", check.did, check.time)


async def postpone(session: Session, table: str, check: Check, seconds: float) -> None:
    await session.execute(
        f"UPDATE {{own}}.{table} SET due_at = now() + make_interval(secs => $3), attempts = attempts + 1 "
        "WHERE did = $1 AND time = $2",
        check.did,
        check.time,
        seconds,
    )


_CLAIM = """
UPDATE {own}.{table} AS due SET due_at = now() + make_interval(secs => $2)
FROM (
  SELECT did FROM {own}.{table} WHERE due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
) AS next
WHERE due.did = next.did
RETURNING due.did, due.time, due.attempts
"""
