"""Events a second through the indexer, from a filled stream to committed rows, fsync on.

.venv/bin/python -m bench.index RECORDING [--batch-size N] [--concurrency N] [--indexers N]
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from bench.copy_bound import copy_seconds
from bench.machine import cpu_seconds, load, peak_rss_mb
from common.collection_filter import CollectionFilter
from common.events import EVENT_FIELD, StreamEvent, encode_event
from common.redis_connection import open_redis
from common.streams import FIREHOSE_LIVE
from indexer.migrations import migrate
from indexer.settings import Settings
from ingester.frames import events_of
from sluice.pipeline import APPVIEW_COLLECTIONS
from sluice.recording import Recording
from sluice.stack import embedded_postgres, embedded_redis

SCHEMA = "bsky"
Prepare = Callable[[asyncpg.Connection], Awaitable[None]]


async def main(arguments: argparse.Namespace, prepare: Prepare | None = None) -> float:
    """Events a second. With `prepare`, which puts something in the tables first, the bound is left out."""
    async with embedded_redis() as redis_url, embedded_postgres() as postgres_url, open_redis(redis_url) as redis:
        connection = await asyncpg.connect(postgres_url)
        await migrate(connection, SCHEMA)
        if prepare:
            await prepare(connection)
        events = await fill(redis, arguments.recording)
        before = await written(connection)
        print(f"{events} events in {FIREHOSE_LIVE}; {load()}")
        children = [await start(arguments, number, redis_url, postgres_url) for number in range(arguments.indexers)]
        seconds, indexer_cpu, postgres_cpu = await measure(redis, children)
        peak = max(peak_rss_mb(child.pid) for child in children)
        for child in children:
            child.send_signal(signal.SIGTERM)
            await child.wait()
        rows, wal = (now - then for now, then in zip(await written(connection), before, strict=True))
        transactions = await connection.fetchval("SELECT sum(xact_commit) FROM pg_stat_database")
        print(
            f"{events / seconds:,.0f} events/s ({seconds:.2f} s); CPU per event: indexer"
            f" {indexer_cpu / events * 1e6:.0f} us, postgres {postgres_cpu / events * 1e6:.0f} us;"
            f" peak {peak:.0f} MB an indexer; {transactions} transactions; {rows / events:.2f} rows written and"
            f" {wal / events:,.0f} bytes of WAL an event; {load()}"
        )
        if not prepare:
            copy, rows = await copy_seconds(connection, SCHEMA)
            print(
                f"bound: these {rows:,} rows COPYed into empty tables in {copy:.2f} s: {events / copy:,.0f} events/s;"
                f" reached {copy / seconds:.2f} of it"
            )
        await connection.close()
        return events / seconds


async def fill(redis: Redis, path: Path) -> int:
    """Everything that the recording's firehose holds, as the ingester would write it."""
    pipe, events = redis.pipeline(transaction=False), 0
    for event in events_in(path):
        pipe.xadd(FIREHOSE_LIVE, {EVENT_FIELD: encode_event(event)})
        events += 1
        if len(pipe) >= 1000:
            await pipe.execute()
    await pipe.execute()
    return events


def events_in(path: Path) -> Iterator[StreamEvent]:
    """What the recording's firehose says of the collections that the AppView reads."""
    is_wanted = CollectionFilter(tuple(APPVIEW_COLLECTIONS.split(",")))
    with Recording.open(path) as recording:
        for frame in recording.frames:
            yield from events_of(frame, is_wanted).events


async def written(connection: asyncpg.Connection) -> tuple[int, int]:
    """Rows written, and bytes of WAL, until now; sessions that are not at their end may still keep their rows back."""
    rows, wal = await connection.fetchrow(_WRITTEN)
    return int(rows), int(wal)


async def start(
    arguments: argparse.Namespace, number: int, redis_url: str, postgres_url: str
) -> asyncio.subprocess.Process:
    environ = {
        **os.environ,
        "REDIS_URL": redis_url,
        "DATABASE_URL": postgres_url,
        "INDEXER_CONSUMER": f"indexer_{number}",
        "INDEXER_BATCH_SIZE": str(arguments.batch_size),
        "INDEXER_CONCURRENCY": str(arguments.concurrency),
        "ENABLE_DID_RESOLUTION": "false",  # a foreign server's speed is not ours
        "METRICS_PORT": "0",
        "LOG_LEVEL": "WARNING",
    }
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "indexer", env=environ)


async def measure(redis: Redis, children: list[asyncio.subprocess.Process]) -> tuple[float, float, float]:
    """Seconds from the first entry read to the last one acked, and CPU seconds of indexers and Postgres meanwhile."""
    while not await is_begun(redis, children):
        await asyncio.sleep(0.002)
    started, indexer, postgres = time.monotonic(), cpu_seconds("-m indexer"), cpu_seconds("postgres:")
    while await entries_left(redis, children):
        await asyncio.sleep(0.01)
    seconds = time.monotonic() - started
    return seconds, cpu_seconds("-m indexer") - indexer, cpu_seconds("postgres:") - postgres


async def is_begun(redis: Redis, children: list[asyncio.subprocess.Process]) -> bool:
    await entries_left(redis, children)
    return any(group["entries-read"] for group in await redis.xinfo_groups(FIREHOSE_LIVE))


async def entries_left(redis: Redis, children: list[asyncio.subprocess.Process]) -> int:
    if any(child.returncode is not None for child in children):
        raise SystemExit("an indexer has died")
    return await redis.xlen(FIREHOSE_LIVE)


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    made.add_argument("recording", type=Path)
    made.add_argument("--batch-size", type=int, default=Settings().batch_size)
    made.add_argument("--concurrency", type=int, default=Settings().concurrency)
    made.add_argument("--indexers", type=int, default=1)
    return made


_WRITTEN = """
SELECT sum(tup_inserted + tup_updated + tup_deleted), pg_current_wal_insert_lsn() - '0/0'::pg_lsn FROM pg_stat_database
"""

if __name__ == "__main__":
    asyncio.run(main(parser(__doc__).parse_args()))
