"""The positions that go with a backup of Postgres.

A cursor stands for everything up to it being in Redis. Once that has also left Redis it is in Postgres, so a backup
begun then holds it; restored, it is complete again from these cursors on. What is read twice changes nothing.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from redis.asyncio import Redis

from common.chain import KEY as CHAIN
from common.errors import CannotStart
from common.streams import FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL
from ingester.cursors import cursor_key
from sluice.cursors import all_cursors, cursor, move, refuse_if_read

LOOK_SECONDS = 0.5
STREAMS = (FIREHOSE_LIVE, LABEL_LIVE)
# where lists of repos have been read to, what became of each repo, and the end of its chain
KNOWN_REPOS = (f"{REPO_BACKFILL}:cursor:*", f"{REPO_BACKFILL}:outcome*", f"{CHAIN}*")


async def save(redis: Redis) -> dict[str, str]:
    """Key -> position, as of now. Returns when Postgres holds all that they cover: as soon as indexers have done it."""
    found = {each.key: each.position for each in await all_cursors(redis, *STREAMS)}
    await asyncio.gather(*(_until_done(redis, stream) for stream in STREAMS))
    return found


async def restore(redis: Redis, saved: Mapping[str, str], *, list_again: bool) -> list[str]:
    """What has been done, in sentences; the ledger of gaps has what was moved. Nothing is, if any of them is read from.

    `list_again`: forgets what is known of every repo, so that all are listed and fetched again: those too that were
    fetched since the backup. Raises Refused.
    """
    found = [await cursor(redis, *key.split(":cursor:", 1)) for key in saved]
    for each in found:
        refuse_if_read(each)
    done = [await move(redis, each, saved[each.key], by="to a backup") for each in found]
    for pattern in KNOWN_REPOS if list_again else ():
        if forgotten := await _forget(redis, pattern):
            done.append(f"{forgotten:,} keys {pattern} are forgotten: all repos are listed and fetched again")
    return done


def read(path: Path) -> dict[str, str]:
    """What `save` has written. Raises CannotStart."""
    starts = tuple(cursor_key(stream, "") for stream in STREAMS)
    try:
        cursors = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CannotStart(f"{path}: {error}") from error
    if not isinstance(cursors, dict) or not all(
        key.startswith(starts) and isinstance(position, str) and position.isdecimal()
        for key, position in cursors.items()
    ):
        raise CannotStart(f"{path} does not hold what `sluice cursor save` writes")
    return cursors


async def _forget(redis: Redis, pattern: str) -> int:
    keys = [key async for key in redis.scan_iter(match=pattern, count=1000)]
    for start in range(0, len(keys), 1000):
        await redis.unlink(*keys[start : start + 1000])
    return len(keys)


async def _until_done(redis: Redis, stream: str) -> None:
    """Finished entries are deleted: what stands in the stream now is done when nothing up to the last of it is left."""
    newest = await redis.xrevrange(stream, count=1)
    last = newest[0][0] if newest else None
    is_said = False
    while last and await redis.xrange(stream, max=last, count=1):
        if not is_said:
            sys.stderr.write(f"waiting until the indexers have done what is in {stream}\n")
        is_said = True
        await asyncio.sleep(LOOK_SECONDS)
