"""When is everything through? Cursors at the end, streams empty, nothing parked, every look-up tried once."""

from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from common.streams import FIREHOSE_BACKFILL, FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL
from indexer.names import own_schema

PARKED = f"{REPO_BACKFILL}:parked"
LISTED = b"!ingester-done"


@dataclass(frozen=True)
class Progress:
    """A look at how far things are. Lengths are work not yet done."""

    frames: int
    labels: int
    listed: bool
    lengths: dict[str, int]
    parked: int
    look_ups: int

    def is_drained(self) -> bool:
        return not (sum(self.lengths.values()) or self.parked or self.look_ups)


class Watch:
    """Looks at Redis and Postgres, as the daemons leave their traces there."""

    def __init__(self, redis: Redis, connection: asyncpg.Connection, schema: str, host: str) -> None:
        """`host`: the relay and labeler, as their cursors are named."""
        self._redis = redis
        self._connection = connection
        self._schema = schema
        self._host = host

    async def look(self) -> Progress:
        lengths = {
            stream: await self._redis.xlen(stream)
            for stream in (FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL, FIREHOSE_BACKFILL)
        }
        return Progress(
            frames=int(await self._cursor(FIREHOSE_LIVE) or 0),
            labels=int(await self._cursor(LABEL_LIVE) or 0),
            listed=await self._cursor(REPO_BACKFILL) == LISTED,
            lengths=lengths,
            parked=await self._redis.zcard(PARKED),
            look_ups=await self._look_ups(),
        )

    async def _cursor(self, stream: str) -> bytes | None:
        value = await self._redis.get(f"{stream}:cursor:{self._host}")
        return value.encode() if isinstance(value, str) else value

    async def _look_ups(self) -> int:
        """Handles and deletions never tried yet; those that failed wait for their next try, which may be long."""
        own = f'"{own_schema(self._schema)}"'
        waiting: int = await self._connection.fetchval(
            f"SELECT (SELECT count(*) FROM {own}.handle_check WHERE attempts = 0)"
            f" + (SELECT count(*) FROM {own}.deletion_check WHERE attempts = 0)"
        )
        return waiting
