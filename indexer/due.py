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
        under_way: set[asyncio.Task[None]] = set()
        backoff = Backoff()
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                free = self._concurrency - len(under_way)
                try:
                    checks = await self._claim(free)
                except ERRORS as error:
                    _raise_if_it_is_ours(error)
                    await stopped_within(stop, backoff.next_seconds())
                    continue
                backoff.reset()
                under_way |= {group.create_task(self._try(check)) for check in checks}
                if len(checks) < free:
                    await stopped_within(stop, IDLE_SECONDS)
                elif under_way:
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)  # a slow one holds up no other
                under_way = {task for task in under_way if not task.done()}

    async def _try(self, check: Check) -> None:
        """What Postgres could not take is due again when the lease has run out."""
        try:
            await self._look(check)
        except ERRORS as error:
            _raise_if_it_is_ours(error)
            log.warning("not settled, tried again", extra={"did": check.did, "of": self._table, "error": str(error)})

    async def _claim(self, most: int) -> list[Check]:
        async with self._database.transaction() as session:
            rows = await session.fetch(_CLAIM.replace("{table}", self._table), most, LEASE_SECONDS)
        return [Check(row["did"], row["time"], row["attempts"]) for row in rows]


def _raise_if_it_is_ours(error: BaseException) -> None:
    if verdict(error) is Verdict.STOP:
        raise error


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
