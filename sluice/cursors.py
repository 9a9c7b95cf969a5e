"""The ingester's cursors in Redis: reading them, and moving one that nobody reads from."""

from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace
from redis.asyncio import Redis

from common.streams import FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL
from ingester.accounts import FIREHOSE, LABELER, LISTING
from ingester.cursors import cursor_key
from ingester.gaps import CLOSED, Gap, GapLedger
from ingester.switches import reading_key

STREAMS = {FIREHOSE_LIVE: FIREHOSE.name, LABEL_LIVE: LABELER.name, REPO_BACKFILL: LISTING.name}

# KEYS: cursor, who reads. ARGV: what should stand there ('' for nothing), what shall.
_SET = """
if redis.call('EXISTS', KEYS[2]) == 1 or (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class Refused(Exception):
    """A cursor is not moved; the message says why, and what to do."""


@dataclass(frozen=True)
class Cursor:
    """`position` is '' if there is none yet, `is_read` whether an ingester reads from it now."""

    stream: str
    host: str
    position: str
    is_read: bool

    @property
    def key(self) -> str:
        return cursor_key(self.stream, self.host)


async def all_cursors(redis: Redis, *streams: str) -> list[Cursor]:
    """In the order of the streams, then by host."""
    found = []
    for stream in streams or STREAMS:
        start = cursor_key(stream, "")
        keys = sorted([key.decode() async for key in redis.scan_iter(match=f"{start}*", count=1000)])
        found += [await cursor(redis, stream, key.removeprefix(start)) for key in keys]
    return found


async def cursor(redis: Redis, stream: str, host: str) -> Cursor:
    key = cursor_key(stream, host)
    stored: Any = await redis.get(key)
    is_read = bool(await redis.exists(reading_key(key)))
    return Cursor(stream, host, (stored or b"").decode(errors="replace"), is_read)


def refuse_if_read(found: Cursor) -> None:
    """Raises Refused."""
    if found.is_read:
        name = f"{STREAMS[found.stream]}/{found.host}"
        raise Refused(
            f"an ingester reads from {found.host}: stop it, or sluice source pause {name}; wait 15 s if killed"
        )


async def move(redis: Redis, found: Cursor, position: str, *, by: str) -> str:
    """What has been done, as a sentence; `by` says by whom or what. The ledger of gaps has it before it is done: a
    cursor that is past something must never be alone in knowing it. Raises Refused.
    """
    refuse_if_read(found)
    if found.position == position:
        return f"{found.key} is {position} already"
    ledger, gap = GapLedger(redis), _skipped(found, position, by)
    await ledger.record(gap)
    if not await redis.eval(_SET, 2, found.key, reading_key(found.key), found.position, position):
        for recorded in await ledger.all():
            if recorded.id == gap.id:
                await ledger.close(recorded)
        raise Refused(f"{found.key} has changed meanwhile, or an ingester has begun to read; try again")
    return f"{found.key} was {found.position or 'not there'} and is {position}; {gap.why}"


def _skipped(found: Cursor, position: str, by: str) -> Gap:
    """What the ledger says of it. Where events come again, or none were promised yet, there is nothing to make good."""
    before = found.position
    old, new = (int(text) if text.isdecimal() else 0 for text in (before, position))
    why = f"set {by} to {position}"
    if before:
        result = "what is between was not read" if new > old else "events come again"
        why = f"set {'forward' if new > old else 'back'} {by} from {before} to {position}: {result}"
    gap = Gap(source=STREAMS[found.stream], host=found.host, kind="cursor_set", after=old, why=why)
    return gap if before and new > old else replace(gap, before=new, state=CLOSED)
