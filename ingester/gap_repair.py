"""Makes gaps good: what a relay says of its repos is compared with what we know, and those that differ are fetched."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from redis.asyncio import Redis

from common.daemon import stopped_within
from common.redis_connection import outlast
from common.streams import REPO_BACKFILL
from ingester.accounts import FIREHOSE
from ingester.gaps import COMPARING, OPEN, Gap, GapLedger
from ingester.repo_listing import RepoListing

RECHECK_SECONDS = 5.0
REASON = "gap"

log = logging.getLogger(__name__)


def comparison_key(host: str) -> str:
    """Where a comparison with this host has come to."""
    return f"{REPO_BACKFILL}:comparison:{host}"


class GapRepair:
    """A service. A comparison closes the gaps that had ended before it began; those found meanwhile get another."""

    def __init__(self, redis: Redis, ledger: GapLedger, host: str, comparison: RepoListing) -> None:
        """`comparison` lists the relay and keeps its position under `comparison_key`."""
        self._redis = redis
        self._ledger = ledger
        self._host = host
        self._comparison = comparison

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if gaps := [gap for gap in await outlast(stop, self._ledger.all) or () if self._is_due(gap)]:
                await self._make_good(gaps, stop)
            await stopped_within(stop, RECHECK_SECONDS)

    def _is_due(self, gap: Gap) -> bool:
        """Labels cannot be compared, and what comes next must be known to be on the stream."""
        if (gap.source, gap.host) != (FIREHOSE.name, self._host):
            return False
        return gap.state == COMPARING or (gap.state == OPEN and gap.before is not None)

    async def _make_good(self, gaps: Sequence[Gap], stop: asyncio.Event) -> None:
        """One that was begun is finished first. The position is deleted before the first gap is said to be compared."""
        if not any(gap.state == COMPARING for gap in gaps):
            if await outlast(stop, partial(self._redis.delete, comparison_key(self._host))) is None:
                return
            for gap in gaps:
                await outlast(stop, partial(self._ledger.change, gap, state=COMPARING))
            fields = {"host": self._host, "gaps": len(gaps)}
            log.info("comparing every repo of the relay with what is known", extra=fields)
        if await self._comparison.to_its_end(stop):
            await self._close(stop)

    async def _close(self, stop: asyncio.Event) -> None:
        for gap in await outlast(stop, self._ledger.all) or ():
            if not self._is_due(gap) or gap.state != COMPARING:
                continue
            if await outlast(stop, partial(self._ledger.close, gap)):
                log.info("gap closed: what differed is queued", extra={"host": self._host, "gap": gap.id})
