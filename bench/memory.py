"""The most memory of each daemon while a recording flows and backpressure holds the ingester back.

.venv/bin/python -m bench.memory RECORDING [--high-water-mark N]
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench.machine import load, peak_rss_mb, processes
from sluice.demo import Servers, set_stage
from sluice.drain import Watch
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline, Upstream, Wiring
from sluice.recording import Recording


async def main(arguments: argparse.Namespace) -> None:
    servers = Servers()
    with Recording.open(arguments.recording) as recording, tempfile.TemporaryDirectory() as folder:
        async with set_stage(servers) as stage, RecordedNetwork(recording) as network:
            host = urlsplit(network.url).netloc
            upstream = Upstream(network.websocket_url, network.url, handle_resolver=network.url, outbound_allow=host)
            extra = {"ingester": {"INGESTER_HIGH_WATER_MARK": str(arguments.high_water_mark)}}
            wiring = Wiring(
                stage.redis_url,
                stage.postgres_url,
                servers.schema,
                upstream,
                Path(folder),
                disposable=True,
                extra=extra,
            )
            watch = Watch(stage.redis, stage.connection, servers.schema, host)
            async with Pipeline(wiring) as pipeline:
                await pipeline.start_indexer(1)
                await pipeline.start_ingester("firehose")
                started, longest, peaks = time.monotonic(), 0, {}
                while (progress := await watch.look()).frames < recording.last_seq or not progress.is_drained():
                    longest = max(longest, progress.lengths["firehose_live"])
                    peaks |= peak_by_daemon()
                    await asyncio.sleep(0.1)
                waited = (await pipeline.metrics()).by("ingester_backpressure_seconds_total", "stream")
            seconds = time.monotonic() - started
            print(f"{len(recording.frames)} frames in {seconds:.1f} s; the stream was at most {longest} entries long,")
            print(f"and the ingester waited {waited.get('firehose_live', 0)} s for room; {load()}")
            for daemon, peak in sorted(peaks.items()):
                print(f"{daemon}: {peak:.0f} MB at most")


def peak_by_daemon() -> dict[str, float]:
    found = {}
    for process in processes():
        for daemon in ("ingester", "indexer"):
            if process.command.rstrip().endswith(f"-m {daemon}"):
                found[daemon] = peak_rss_mb(process.pid)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--high-water-mark", type=int, default=2000)
    asyncio.run(main(parser.parse_args()))
