"""Where we are with each host: one key per stream and host, moved only together with the entries that it covers."""

import asyncio
from typing import Any

from redis.asyncio import Redis

from common.errors import CannotStart
from common.redis_connection import outlast

LISTING_DONE = "!ingester-done"


def cursor_key(stream: str, host: str) -> str:
    """`host` in its canonical spelling, or the DID of a labeler that is followed."""
    return f"{stream}:cursor:{host}"


def source_key(stream: str, host: str) -> str:
    """Beside the cursor: how far the host has ever been read (common/repo_states.py)."""
    return f"{stream}:source:{host}"


async def stored_cursor(redis: Redis, key: str, stop: asyncio.Event) -> str | None:
    """The cursor as it stands in Redis, '' if there is none yet; None if the daemon was told to stop first."""

    found: Any = await outlast(stop, lambda: redis.mget(key))  # not GET: None would be both unset and stopped
    return None if found is None else (found[0] or b"").decode(errors="replace")


def sequence_number(key: str, stored: str) -> int:
    """The position that a subscription's cursor stands for; without one it is 0, the oldest that the host keeps.

    Raises CannotStart if it is no position: guessing another one would lose events or repeat them all.
    """
    if stored and not stored.isdecimal():
        raise CannotStart(f"{key} holds {stored[:80]!r}, which is no sequence number; correct it, or delete the key")
    return int(stored or 0)
