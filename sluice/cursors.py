"""`sluice save-cursors` and `restore-cursors`: the positions that go with a backup of Postgres.

A cursor stands for everything up to it being in Redis. Once that has also left Redis it is in Postgres, so a backup
begun then holds it; restored, it is complete again from these cursors on. What is read twice changes nothing.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.chain import KEY as CHAIN
from common.errors import CannotStart
from common.redis_connection import open_redis
from common.settings import load
from common.streams import FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL
from ingester.settings import Settings

LOOK_SECONDS = 0.5
STREAMS = (FIREHOSE_LIVE, LABEL_LIVE)
# where lists of repos have been read to, what became of each repo, and the end of its chain
KNOWN_REPOS = (f"{REPO_BACKFILL}:cursor:*", f"{REPO_BACKFILL}:outcome*", f"{CHAIN}*")


async def print_saved(environ: Mapping[str, str]) -> int:
    """Raises CannotStart."""
    async with _redis(environ) as redis:
        sys.stdout.write(json.dumps(await save(redis)) + "\n")
    return 0


async def set_back(environ: Mapping[str, str], path: Path, *, list_again: bool) -> int:
    """Raises CannotStart."""
    saved = read(Path("/dev/stdin") if path == Path("-") else path)
    async with _redis(environ) as redis:
        changed = await restore(redis, saved, list_again=list_again)
    sys.stderr.write("".join(f"{key}\n" for key in changed))
    return 0


@asynccontextmanager
async def _redis(environ: Mapping[str, str]) -> AsyncIterator[Redis]:
    async with open_redis(load(Settings, environ, prefix="INGESTER_").redis_url) as redis:
        try:
            await redis.ping()
        except RedisError as error:
            raise CannotStart(f"redis does not answer: {error}; check REDIS_URL") from error
        yield redis


async def save(redis: Redis) -> dict[str, str]:
    """Key -> position, as of now. Returns when Postgres holds all that they cover: as soon as indexers have done it."""
    cursors = {key: await _text(redis, key) for stream in STREAMS for key in await _keys(redis, stream)}
    await asyncio.gather(*(_until_done(redis, stream) for stream in STREAMS))
    return cursors


async def restore(redis: Redis, cursors: dict[str, str], *, list_again: bool) -> list[str]:
    """Keys that were set, and what was forgotten. A running ingester notices, and goes on from there.

    `list_again`: forgets what is known of every repo, so that all are listed and fetched again: those too that were
    fetched since the backup.
    """
    for key, position in cursors.items():
        await redis.set(key, position)
    forgotten = [pattern for pattern in KNOWN_REPOS if await _forget(redis, pattern)] if list_again else []
    return [*cursors, *forgotten]


async def _forget(redis: Redis, pattern: str) -> int:
    keys = [key async for key in redis.scan_iter(match=pattern, count=1000)]
    for start in range(0, len(keys), 1000):
        await redis.unlink(*keys[start : start + 1000])
    return len(keys)


def read(path: Path) -> dict[str, str]:
    """What `save` has written. Raises CannotStart."""
    starts = tuple(f"{stream}:cursor:" for stream in STREAMS)
    try:
        cursors = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CannotStart(f"{path}: {error}") from error
    if not isinstance(cursors, dict) or not all(
        key.startswith(starts) and isinstance(position, str) and position.isdecimal()
        for key, position in cursors.items()
    ):
        raise CannotStart(f"{path} does not hold what `sluice save-cursors` writes")
    return cursors


async def _keys(redis: Redis, stream: str) -> list[str]:
    return sorted([str(key, "utf-8") async for key in redis.scan_iter(match=f"{stream}:cursor:*")])


async def _text(redis: Redis, key: str) -> str:
    stored: Any = await redis.get(key)
    return (stored or b"0").decode()


async def _until_done(redis: Redis, stream: str) -> None:
    """Finished entries are deleted: what stands in the stream now is done when nothing up to the last of it is left."""
    newest = await redis.xrevrange(stream, count=1)
    last = newest[0][0] if newest else None
    while last and await redis.xrange(stream, max=last, count=1):
        sys.stderr.write(f"waiting until the indexers have done what is in {stream}\n")
        await asyncio.sleep(LOOK_SECONDS)
