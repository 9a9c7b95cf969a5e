"""`sluice up`: the pipeline on the live network, with the servers started here unless they are given."""

import asyncio
import sys
import tempfile
from pathlib import Path

from sluice.demo import Servers, set_stage
from sluice.pipeline import Pipeline, Upstream, Wiring
from sluice.shell_environment import environment_file
from sluice.status_page import serving

LOOK_SECONDS = 2.0


async def run(servers: Servers, relay: str, plc: str, labelers: str, *, indexers: int, backfill: bool) -> int:
    """Runs until it is cancelled. Raises CannotStart, and DaemonFailed when a daemon ends that should run."""
    with tempfile.TemporaryDirectory(prefix="sluice-up-") as folder:
        async with set_stage(servers) as stage:
            upstream = Upstream(relay_hosts=relay, plc_url=plc, labeler_hosts=labelers)
            wiring = Wiring(
                stage.redis_url, stage.postgres_url, servers.schema, upstream, Path(folder), disposable=False
            )
            async with Pipeline(wiring) as pipeline:
                for number in range(1, indexers + 1):
                    await pipeline.start_indexer(number)
                if backfill:
                    await pipeline.start_backfiller()
                await pipeline.start_ingester("all" if backfill else "firehose,labeler")
                async with serving(pipeline.addresses, "127.0.0.1") as page:
                    sys.stderr.write(f"the status page: {page}\n")
                    environment = environment_file(pipeline, recorded=False)
                    sys.stderr.write(f"for sluice status, explain and others in another terminal:  . {environment}\n")
                    await _watch(pipeline)
    return 0


async def _watch(pipeline: Pipeline) -> None:
    for daemon in pipeline.daemons:
        sys.stderr.write(f"{daemon.name:18} {daemon.url}/metrics\n")
    while True:
        metrics = await pipeline.metrics()
        names = {"live": "ingester_firehose_live_length", "backfill": "ingester_firehose_backfill_length"}
        lengths = "  ".join(f"{name} {metrics[gauge]:,}" for name, gauge in names.items())
        read, rows = metrics["ingester_stream_events_total"], metrics["indexer_db_writes_total"]
        sys.stderr.write(f"{read:,} events onto the streams, {rows:,} rows written  |  in the streams: {lengths}\n")
        await asyncio.sleep(LOOK_SECONDS)
