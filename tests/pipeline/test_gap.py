"""A relay that keeps its events for a shorter time than we were away: what was missed is known, and made good."""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

from ingester.gaps import GapLedger
from sluice.drain import Watch
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline
from tests.databases import connected
from tests.expected_rows import Rows, differences, expected_rows, rows_of, unexplained
from tests.ingesting import recorded
from tests.pipeline_runs import Run, wiring
from tests.recorded_network import StartNetwork
from tests.waiting import until

RECORDING = "basic"
SEEN, OLDEST_KEPT = 15, 45
# when a record came to us is another time now; everything else follows from the records that there are
TIMES = ("indexedAt", "sortAt")


def timeless(rows: Mapping[str, Rows]) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for table, lines in rows.items():
        found[table] = Counter()
        for line, count in lines.items():
            row = {column: value for column, value in json.loads(line).items() if column not in TIMES}
            found[table][json.dumps(row, sort_keys=True, ensure_ascii=False)] += count
    return found


def untouched(served: RecordedNetwork, after: int, before: int) -> set[str]:
    """The repos of which nothing was missed."""
    missed = {event[2] for event in recorded(served.recording.frames) if after < event[0] < before}
    return {repo.did for repo in served.recording.repos} - missed


async def test_what_a_relay_no_longer_had_is_fetched_from_the_repos_that_differ(
    network: StartNetwork, redis: Redis, redis_url: str, migrated_url: str, tmp_path: Path
) -> None:
    served = await network(RECORDING, pace=10)
    host = urlsplit(served.url).netloc
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connected(migrated_url))
        pipeline = await stack.enter_async_context(Pipeline(wiring(served, redis_url, migrated_url, tmp_path)))
        run = Run(pipeline, Watch(redis, connection, "bsky", host), redis, connection)
        await run.start("indexer")
        await run.start("ingester")
        await until(partial(run.has_reached, SEEN))
        assert await pipeline.daemons[-1].stop() == 0
        pipeline.daemons.pop()
        away_since = await run.frames()
        assert SEEN <= away_since < OLDEST_KEPT

        served.firehose.pace, served.firehose.faults.oldest_seq = None, OLDEST_KEPT
        await run.start("backfiller")
        await run.start("ingester")
        await until(partial(run.has_reached, served.recording.last_seq))

        async def is_made_good() -> bool:
            return [gap.state for gap in await GapLedger(redis).all()] == ["closed"] and await run.is_drained()

        await until(is_made_good)
        (gap,) = await GapLedger(redis).all()
        assert (gap.host, gap.kind, gap.after, gap.before) == (host, "outdated_cursor", away_since, OLDEST_KEPT)
        metrics = await pipeline.metrics(["ingester"])
        left_out = metrics.by("ingester_dropped_total", "reason").get("current", 0)
        assert len(untouched(served, gap.after, OLDEST_KEPT)) <= left_out < len(served.recording.repos)
        found = differences(timeless(await rows_of(connection)), timeless(expected_rows(RECORDING)))
        assert unexplained(RECORDING, found) == []
