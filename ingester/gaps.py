"""The ledger of gaps: what a source skipped or could not say, kept in Redis until it has been made good."""

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from redis.asyncio import Redis

from common.daemon import stopped_within
from common.redis_connection import outlast
from common.syntax import utc_text
from ingester.metrics import GAPS, GAPS_UNCLOSED

LEDGER = "ingester:gaps"
OPEN, COMPARING, CLOSED = "open", "comparing", "closed"
CLOSED_KEPT = 200
MOST_OF_LISTS = 10_000  # strangers' lists could make any number
WATCH_SECONDS = 5.0
KINDS = {
    "firehose": ("outdated_cursor", "seq_jump", "future_cursor", "oversized_frame", "cursor_set"),
    "labeler": ("outdated_cursor", "seq_jump", "future_cursor", "oversized_frame", "cursor_set"),
    "listing": ("unlisted_rows", "too_many_rows", "cursor_set"),
}
for _source, _kinds in KINDS.items():
    GAPS_UNCLOSED.labels(_source)
    for _kind in _kinds:
        GAPS.labels(_source, _kind)


class Gap(Struct, frozen=True, kw_only=True):
    """What is missing of one host: whatever lies after `after` and before `before`, both in that host's numbering.

    `before` is None until the host's stream has gone on. Where the numbering began again it is below `after`.
    `at` is when it was recorded.
    """

    source: str
    host: str
    kind: str
    after: int
    before: int | None = None
    why: str
    at: str = ""
    state: str = OPEN
    closed_at: str | None = None

    @property
    def id(self) -> str:
        """The same for the same gap, however often it is seen."""
        return f"{self.source}/{self.host}/{self.kind}/{self.after}"


# KEYS: ledger. ARGV: id, what should stand there ('' for nothing), what shall.
_REPLACE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
log = logging.getLogger(__name__)
_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Gap)


class GapLedger:
    """Every call may be repeated, as an outage of Redis may make necessary; none of them retries by itself."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._replace = redis.register_script(_REPLACE)

    async def all(self) -> list[Gap]:
        """The oldest first."""
        stored: Any = await self._redis.hvals(LEDGER)
        return sorted((_decoder.decode(each) for each in stored), key=lambda each: (each.at, each.id))

    async def record(self, found: Gap) -> bool:
        """False if it was there already. One that was closed, or ended elsewhere, is open again."""
        while True:
            stored = await self._stored(found.id)
            if stored:
                known = _decoder.decode(stored)
                if known.state != CLOSED and known.before == found.before:
                    return False
            if not stored and await self._is_full(found.source):
                GAPS.labels(found.source, found.kind).inc()
                log.error(
                    "a gap that the ledger has no room for; close some", extra={"gap": found.id, "why": found.why}
                )
                return False
            if await self._swap(found.id, stored, replace(found, at=_now())):
                GAPS.labels(found.source, found.kind).inc()
                return True

    async def change(self, known: Gap, **changes: Any) -> bool:
        """False if it is not as it was known, and then nothing changes."""
        return await self._swap(known.id, _encoder.encode(known), replace(known, **changes))

    async def close(self, known: Gap) -> bool:
        return await self.change(known, state=CLOSED, closed_at=_now())

    async def watch(self, stop: asyncio.Event) -> None:
        """Service: shows what the ledger holds, and lets the oldest go of what is closed."""
        while not stop.is_set():
            await outlast(stop, self._show)
            await stopped_within(stop, WATCH_SECONDS)

    async def _show(self) -> bool:
        found = await self.all()
        unclosed = Counter(each.source for each in found if each.state != CLOSED)
        for source in KINDS:
            GAPS_UNCLOSED.labels(source).set(unclosed[source])
        closed = sorted((each for each in found if each.state == CLOSED), key=lambda each: each.closed_at or each.at)
        if old := closed[:-CLOSED_KEPT]:
            await self._redis.hdel(LEDGER, *(each.id for each in old))
        return True

    async def _is_full(self, source: str) -> bool:
        return source == "listing" and int(await self._redis.hlen(LEDGER)) >= MOST_OF_LISTS

    async def _stored(self, id: str) -> bytes:
        stored: Any = await self._redis.hget(LEDGER, id)
        return stored or b""

    async def _swap(self, id: str, stored: bytes, new: Gap) -> bool:
        return bool(await self._replace(keys=[LEDGER], args=[id, stored, _encoder.encode(new)]))


def _now() -> str:
    return utc_text(datetime.now(UTC))
