"""When is everything through? Cursors at the end, streams empty, nothing parked, every look-up tried once."""

from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from backfiller.parking import parked_key
from common.streams import FIREHOSE_BACKFILL, FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL, REPO_BACKFILL_HIGH
from indexer.names import own_schema
from ingester.cursors import LISTING_DONE, cursor_key

_STREAMS = (FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL, REPO_BACKFILL_HIGH, FIREHOSE_BACKFILL)
_PARKED = tuple(map(parked_key, (REPO_BACKFILL, REPO_BACKFILL_HIGH)))


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
        """Redis in one moment, or entries could arrive between a look at their stream and one at their cursor."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.mget([cursor_key(stream, self._host) for stream in (FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL)])
            for stream in _STREAMS:
                pipe.xlen(stream)
            for parked in _PARKED:
                pipe.zcard(parked)
            (live, labels, listing), *counts = await pipe.execute()
        return Progress(
            frames=int(live or 0),
            labels=int(labels or 0),
            listed=listing == LISTING_DONE.encode(),
            lengths=dict(zip(_STREAMS, counts, strict=False)),
            parked=sum(counts[len(_STREAMS) :]),
            look_ups=await self._look_ups(),
        )

    async def _look_ups(self) -> int:
        """Handles and deletions never tried yet; those that failed wait for their next try, which may be long."""
        own = f'"{own_schema(self._schema)}"'
        waiting: int = await self._connection.fetchval(
            f"SELECT (SELECT count(*) FROM {own}.handle_check WHERE attempts = 0)"
            f" + (SELECT count(*) FROM {own}.deletion_check WHERE attempts = 0)"
        )
        return waiting
