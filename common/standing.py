"""What stands in Redis beside the streams and never drains: what is known of each repo, and of its backfill.

Each counts as the least that Redis needs for one (docs/decisions/0010 and 0011), so what is left is never overrated.
"""

from typing import Any

from redis.asyncio import Redis

from common.chain import KEY

BACKFILLS = "repo_backfill"  # the stream that names the keys of the ledger, unless another one is configured
BYTES_PER_REPO = 45  # 67 when its account has been told of
BYTES_PER_OUTCOME = 89
BYTES_PER_RECHECK = 91


def outcome_counts_key(backfills: str) -> str:
    """A hash: outcome -> how many repos had it last."""
    return f"{backfills}:outcomes"


def rechecks_key(backfills: str) -> str:
    """A sorted set of the DIDs that are to be looked at again."""
    return f"{backfills}:recheck"


async def standing_bytes(redis: Redis, backfills: str = BACKFILLS) -> int:
    """At least so much of Redis' memory will not be free again, whatever consumers do."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.hget(KEY, "repos")
        pipe.hvals(outcome_counts_key(backfills))
        pipe.zcard(rechecks_key(backfills))
        found: Any = await pipe.execute()
    repos, backfilled, rechecks = int(found[0] or 0), sum(map(int, found[1])), int(found[2])
    return repos * BYTES_PER_REPO + backfilled * BYTES_PER_OUTCOME + rechecks * BYTES_PER_RECHECK
