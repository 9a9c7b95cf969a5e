"""What became of every repo, in Redis: its last outcome, how many repos had each, and when to look at one again.

Outcomes are hashes of a few repos each, `{stream}:outcome:{bucket}`, which Redis packs tightly: 89 bytes a repo.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from backfiller.outcomes import DONE
from common.collection_filter import CollectionFilter
from common.redis_connection import outlast
from common.standing import outcome_counts_key, rechecks_key

BUCKETS = 1 << 20
DEAD_LETTERED = "dead_lettered"

# Part of a script: the new outcome of a repo, and how many repos had which outcome last.
WRITE_ENTRY = """
local function write_entry(bucket, counts, did, entry)
  local before = redis.call('HGET', bucket, did)
  if before then redis.call('HINCRBY', counts, string.match(before, '^%S+'), -1) end
  redis.call('HINCRBY', counts, string.match(entry, '^%S+'), 1)
  redis.call('HSET', bucket, did, entry)
end
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """The last outcome of a repo, at `at_ms` of Unix time. The leaves of its tree are emitted + filtered + failed.

    `note`: what a dead letter died of, or the fingerprint of the collections that a repo was done with.
    """

    outcome: str
    rev: str
    at_ms: int
    emitted: int = 0
    filtered: int = 0
    failed: int = 0
    note: str = ""

    def text(self) -> str:
        numbers = f"{self.at_ms} {self.emitted} {self.filtered} {self.failed}"
        return f"{self.outcome} {self.rev or '-'} {numbers} {self.note or '-'}"

    @classmethod
    def of(cls, text: bytes) -> "Entry":
        """The inverse of `text`. Raises ValueError."""
        outcome, rev, *numbers, note = ("" if part == "-" else part for part in text.decode().split(" "))
        at_ms, emitted, filtered, failed = map(int, numbers)
        return cls(outcome, rev, at_ms, emitted, filtered, failed, note)


def fingerprint(collections: CollectionFilter) -> str:
    """A repo that was done with other collections is not done with these."""
    return f"{zlib.crc32(','.join(collections.patterns).encode()):08x}"


def is_current(entry: Entry | None, rev: str, collections: CollectionFilter) -> bool:
    """Whether a repo of which somebody has seen `rev` need not be fetched again."""
    if entry is None or entry.outcome != DONE or not rev:
        return False
    return entry.rev >= rev and entry.note == fingerprint(collections)


class Ledger:
    """`stream` names the keys: that of the normal jobs, whichever stream a job came from."""

    def __init__(self, redis: Redis, stream: str) -> None:
        self._redis = redis
        self._stream = stream
        self.counts_key = outcome_counts_key(stream)
        self.recheck_key = rechecks_key(stream)
        self._write = redis.register_script(f"{WRITE_ENTRY} write_entry(KEYS[1], KEYS[2], ARGV[1], ARGV[2])")

    def bucket(self, did: str) -> str:
        return f"{self._stream}:outcome:{zlib.crc32(did.encode()) % BUCKETS:05x}"

    async def known(self, did: str, stop: asyncio.Event) -> Entry | None:
        """None also if the daemon was told to stop before Redis answered."""
        text: Any = await outlast(stop, lambda: self._redis.hget(self.bucket(did), did))
        return Entry.of(text) if text else None

    async def known_of(self, dids: Sequence[str]) -> list[Entry | None]:
        """As many and in the same order."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for did in dids:
                pipe.hget(self.bucket(did), did)
            texts: Any = await pipe.execute()
        return [Entry.of(text) if text else None for text in texts]

    async def counts(self) -> dict[str, int]:
        """How many repos had each outcome last."""
        counts: Any = await self._redis.hgetall(self.counts_key)
        return {name.decode(): number for name, text in sorted(counts.items()) if (number := int(text))}

    async def entries(self) -> AsyncIterator[tuple[str, Entry]]:
        """All of them, in no order; what changes meanwhile may come twice."""
        async for bucket in self._redis.scan_iter(f"{self._stream}:outcome:*", count=1000):
            found: Any = await self._redis.hgetall(bucket)
            for did, text in found.items():
                yield did.decode(), Entry.of(text)

    async def write(self, did: str, entry: Entry) -> None:
        """For a repo that was no job."""
        await self._write(keys=[self.bucket(did), self.counts_key], args=[did, entry.text()])
