"""A relay that loses commits: their repos are fetched, and the rows are those of a run without a loss."""

import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

from common.dag_cbor import decode_header_and_body
from common.repo_states import RepoStates
from common.streams import FIREHOSE_LIVE, REPO_BACKFILL_HIGH
from sluice.drain import Watch
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline
from sluice.recording import Recording
from tests.conftest import OpenRecording
from tests.databases import connected
from tests.expected_rows import Rows, differences, expected_rows, rows_of, unexplained
from tests.pipeline_runs import Run, wiring
from tests.relays import did_of, with_frames
from tests.waiting import until

RECORDING = "load-tiny"


async def test_what_a_relay_loses_is_in_the_tables_all_the_same(
    recording: OpenRecording, redis: Redis, redis_url: str, migrated_url: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(RecordedNetwork(lossy(recording(RECORDING))))
        connection = await stack.enter_async_context(connected(migrated_url))
        watch = Watch(redis, connection, "bsky", urlsplit(served.url).netloc)
        pipeline = await stack.enter_async_context(Pipeline(wiring(served, redis_url, migrated_url, tmp_path)))
        run = Run(pipeline, watch, redis, connection)
        for daemon in ("indexer", "ingester"):
            await run.start(daemon)
        await until(lambda: is_indexed(run, served.firehose.last_seq))
        assert (await RepoStates(redis).counts()).desynchronised == await redis.xlen(REPO_BACKFILL_HIGH) > 20
        await run.start("backfiller")
        await until(run.is_drained)
        assert (await RepoStates(redis).counts()).desynchronised == 0
        ours, expected = timeless(await rows_of(connection)), timeless(expected_rows(RECORDING))
        assert unexplained(RECORDING, differences(ours, expected)) == []


def lossy(whole: Recording) -> Recording:
    """Without many a like and repost: of what is judged by its time, we should have to know when it was told.

    Repos that cannot be fetched lose nothing, nor does any its last commit: nothing comes after it that would show it.
    """
    frames = list(whole.frames)
    last = {did_of(frame): index for index, frame in enumerate(frames)}
    away = {repo.did for repo in whole.repos if not repo.active}
    lost = {
        index
        for index, frame in enumerate(frames)
        if index % 7 == 3 and losable(frame) and did_of(frame) not in away and last[did_of(frame)] != index
    }
    assert len(lost) > 100
    return with_frames(whole, [frame for index, frame in enumerate(frames) if index not in lost])


def losable(frame: bytes) -> bool:
    _, body = decode_header_and_body(frame)
    collections = {op["path"].partition("/")[0] for op in body.get("ops", ())}
    return bool(collections) and collections <= {"app.bsky.feed.like", "app.bsky.feed.repost"}


async def is_indexed(run: Run, seq: int) -> bool:
    return await run.frames() >= seq and not await run.redis.xlen(FIREHOSE_LIVE)


def timeless(tables: dict[str, Rows]) -> dict[str, Rows]:
    """Of what was fetched we do not know when the relay would have told it."""
    return {table: Counter(_without_times(line) for line in rows.elements()) for table, rows in tables.items()}


def _without_times(line: str) -> str:
    row = json.loads(line)
    return json.dumps(
        {name: value for name, value in row.items() if name not in ("indexedAt", "sortAt")}, sort_keys=True
    )
