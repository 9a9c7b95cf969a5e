"""`sluice up`: the pipeline on the live network, with the servers started here unless they are given."""

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice.demo import Servers, set_stage
from sluice.history import History
from sluice.pipeline import Pipeline, Upstream, Wiring
from sluice.report import document
from sluice.shell_environment import environment_file
from sluice.status_page import serving
from sluice.targets import look

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
    """A line at each look, and what is not as it should be whenever that changes."""
    for daemon in pipeline.daemons:
        sys.stderr.write(f"{daemon.name:12} {daemon.url}/metrics  log: {daemon.log}\n")
    history, told = History(), None
    while True:
        for daemon in pipeline.daemons:
            daemon.check()
        flow = await look(pipeline.http, pipeline.addresses())
        history.add(flow)
        shown = document(flow, history)
        if shown["notes"] != told:
            told = shown["notes"]
            sys.stderr.write("".join(f"{shown['state']}: {note}\n" for note in told) or "all is well\n")
        sys.stderr.write(f"{_line(shown)}\n")
        await asyncio.sleep(LOOK_SECONDS)


def _line(shown: Mapping[str, Any]) -> str:
    received, rows = (shown["rates"][name] or 0.0 for name in ("received", "rows"))
    waiting = ", ".join(f"{each['name']} {each['length']:,}" for each in shown["streams"] if each["length"])
    return f"{received:,.0f} events/s from the network, {rows:,.0f} rows/s written  |  waiting: {waiting or 'nothing'}"
