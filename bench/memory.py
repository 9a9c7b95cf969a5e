"""The memory of each daemon: of the ingester while Redis is full, and the most of all while a recording flows.

.venv/bin/python -m bench.memory RECORDING [--full-seconds N] [--high-water-mark N]
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

from bench.machine import Process, load, peak_rss_mb, processes
from sluice.demo import Servers, set_stage
from sluice.drain import Watch
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline, Upstream, Wiring
from sluice.recording import Recording

DAEMONS = ("ingester", "indexer")
ROOM_BYTES = 1 << 20  # some hundred entries
SHARE = 0.8  # INGESTER_MEMORY_SHARE
WAITING_SECONDS = 120


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
            async with Pipeline(wiring) as pipeline:
                await measure_full(pipeline, stage.redis, arguments.full_seconds)
                watch = Watch(stage.redis, stage.connection, servers.schema, host)
                await measure_flow(pipeline, watch, recording)


async def measure_full(pipeline: Pipeline, redis: Redis, seconds: int) -> None:
    """Nobody reads the stream, and the relay has more than fits."""
    most = int(((await redis.info("memory"))["used_memory"] + ROOM_BYTES) / SHARE)
    await redis.config_set("maxmemory", most)
    await pipeline.start_ingester("firehose")
    async with asyncio.timeout(WAITING_SECONDS):
        while not (await pipeline.metrics()).by("sluice_backpressure_seconds_total", "stream").get("firehose_live"):
            await asyncio.sleep(0.5)
    samples = []
    for _ in range(seconds):
        samples.append(sum(each.rss_mb for each in of("ingester")))
        await asyncio.sleep(1)
    used = (await redis.info("memory"))["used_memory"] / most
    entries = await redis.xlen("firehose_live")
    await redis.config_set("maxmemory", 0)
    print(f"Redis full for {seconds} s, at {used:.0%} of its memory, {entries} entries; the ingester and its")
    print(f"{len(of('ingester')) - 1} workers: {samples[0]:.0f} MB at first, {samples[-1]:.0f} MB at last,", end=" ")
    print(f"from {min(samples):.0f} to {max(samples):.0f} MB between; {load()}")


async def measure_flow(pipeline: Pipeline, watch: Watch, recording: Recording) -> None:
    await pipeline.start_indexer(1)
    started, longest, peaks = time.monotonic(), 0, {}
    while (progress := await watch.look()).frames < recording.last_seq or not progress.is_drained():
        longest = max(longest, progress.lengths["firehose_live"])
        peaks |= {daemon: sum(peak_rss_mb(each.pid) for each in of(daemon)) for daemon in DAEMONS}
        await asyncio.sleep(0.1)
    waited = (await pipeline.metrics()).by("sluice_backpressure_seconds_total", "stream")
    print(f"{len(recording.frames)} frames in {time.monotonic() - started:.1f} s; the stream was at most {longest}")
    print(f"entries long, and the ingester waited {waited.get('firehose_live', 0)} s for room; {load()}")
    for daemon, peak in sorted(peaks.items()):
        print(f"{daemon}: {peak:.0f} MB at most, worker processes included")


def of(daemon: str) -> list[Process]:
    """Our daemon and its workers, and not those of others on this machine. A guard stands between us and it."""
    found = processes()
    guards = {each.pid for each in found if each.parent == os.getpid()}
    daemons = {each.pid for each in found if each.parent in guards and each.command.rstrip().endswith(f"-m {daemon}")}
    return [each for each in found if {each.pid, each.parent} & daemons]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--full-seconds", type=int, default=60)
    parser.add_argument("--high-water-mark", type=int, default=2000)
    asyncio.run(main(parser.parse_args()))
