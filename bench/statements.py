"""What batches ask of Postgres: statements, rows and bytes.

.venv/bin/python -m bench.statements RECORDING [--batch-size N]

Counted in one process, batch after batch; BEGIN and COMMIT are left out.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import asyncpg

from bench.index import SCHEMA, events_in, written
from common.delivery import Delivery
from common.events import encode_event
from common.streams import FIREHOSE_LIVE
from indexer.database import Database
from indexer.migrations import migrate
from indexer.settings import Settings
from indexer.work import EventWork
from sluice.stack import embedded_postgres

ASKED: Counter[str] = Counter()


class Counting(asyncpg.Connection):
    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        if args or not query.lstrip().startswith(("BEGIN", "COMMIT")):
            ASKED[query.split(maxsplit=1)[0]] += 1
        status: str = await super().execute(query, *args, **options)
        return status

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        ASKED[query.split(maxsplit=1)[0]] += 1
        return await super().fetch(query, *args, **options)

    async def copy_records_to_table(self, table_name: str, **options: Any) -> str:
        ASKED["COPY"] += 1
        status: str = await super().copy_records_to_table(table_name, **options)
        return status


async def main(arguments: argparse.Namespace) -> None:
    async with (
        embedded_postgres() as url,
        asyncpg.create_pool(url, min_size=1, max_size=1, connection_class=Counting) as pool,
    ):
        connection = await asyncpg.connect(url)
        await migrate(connection, SCHEMA)
        payloads = [encode_event(event) for event in events_in(arguments.recording)]
        before = await written(connection)
        ASKED.clear()
        work = EventWork(Database(pool, SCHEMA))
        starts = range(0, len(payloads), arguments.batch_size)
        counts = [await count(work, payloads[start : start + arguments.batch_size]) for start in starts]
        async with pool.acquire() as own:
            await own.fetch("SELECT pg_stat_force_next_flush()")
        rows, wal = (now - then for now, then in zip(await written(connection), before, strict=True))
        await connection.close()
    applied, settled = zip(*counts, strict=True)
    print(
        f"{len(payloads)} events in {len(counts)} batches: {mean(applied):.1f} statements to apply one (at most"
        f" {max(applied)}), {mean(settled):.1f} to settle it (at most {max(settled)}),"
        f" {(sum(applied) + sum(settled)) / len(payloads):.4f} an event; {dict(ASKED.most_common())}"
    )
    print(f"an event: {rows / len(payloads):.2f} rows written, {wal / len(payloads):,.0f} bytes of WAL")


async def count(work: EventWork, payloads: Sequence[bytes]) -> tuple[int, int]:
    """Statements to apply a batch, and to settle it."""
    items = [work.decode(Delivery(b"0-0", payload)) for payload in payloads]
    applied = settled = 0
    for portion in work.portions(items):
        prepared = await work.prepare(portion)
        start = ASKED.total()
        await work.apply(prepared, FIREHOSE_LIVE)
        middle = ASKED.total()
        await work.settle(prepared, FIREHOSE_LIVE)
        applied, settled = applied + middle - start, settled + ASKED.total() - middle
    return applied, settled


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--batch-size", type=int, default=Settings().batch_size)
    asyncio.run(main(parser.parse_args()))
