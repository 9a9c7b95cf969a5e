"""Frames -> stream entries on one core: what each step costs, and what the whole does over a loopback websocket.

python -m bench.ingest RECORDING   (a folder or a .tar.zst; a load pack, for the small ones are over too soon)
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from redis.asyncio import Redis

from bench.machine import load
from common.backpressure import Room
from common.collection_filter import CollectionFilter
from common.daemon import collect_garbage_seldom
from common.events import EVENT_FIELD, encode_event
from common.identity import Identities
from common.outbound import Outbound
from common.redis_connection import open_redis
from common.repo_states import FrameWriter
from common.streams import FIREHOSE_LIVE
from ingester.accounts import FIREHOSE, Account, units
from ingester.batching import BatchLimits
from ingester.chain import told
from ingester.commits import events_of_commit, read_commit
from ingester.connection import Reading
from ingester.controls import LiveFilter
from ingester.frame_reader import FrameReader
from ingester.frames import events_of
from ingester.framing import read_message
from ingester.intake import Intake
from ingester.metrics import HostMeter
from ingester.reading_ahead import ReadAhead, Reader
from ingester.signing_keys import SigningKeys
from ingester.subscription import Subscription
from ingester.verification import Mode
from ingester.workers import Workers
from ingester.writing import ChainedWriter
from sluice.recording import Recording
from sluice.stack import embedded_redis

BATCH, SAMPLE, ROUNDS = 500, 10_000, 3
CURSOR = "firehose_live:cursor:bench"
IS_WANTED = CollectionFilter(("app.bsky.*", "chat.bsky.*"))


async def main(path: Path) -> None:
    with Recording.open(path) as recording:
        frames = sample(recording)
        measure_steps(frames)
        async with embedded_redis() as url, open_redis(url) as redis:
            await measure_redis(frames, redis)
            for mode, workers in ((Mode.OFF, 0), (Mode.STRICT, 0), (Mode.STRICT, 2)):
                await redis.flushdb()
                await measure_websocket(path, recording, redis, mode, workers)


def sample(recording: Recording) -> list[bytes]:
    """From all over the recording: commits grow with their repos."""
    count = len(recording.frames)
    return [recording.frames[index] for index in range(0, count, max(1, count // SAMPLE))]


def measure_steps(frames: list[bytes]) -> None:
    messages = [read_message(frame) for frame in frames]
    commits = [read_commit(message) for message in messages if message.kind == "#commit"]
    events = [event for commit in commits for event in events_of_commit(commit, IS_WANTED).events]
    report("decode", seconds(read_message, frames), len(frames))
    report("car + hash", seconds(read_commit, [m for m in messages if m.kind == "#commit"]), len(frames))
    report("events + json", seconds(partial(events_of_commit, is_wanted=IS_WANTED), commits), len(frames))
    report("encode", seconds(encode_event, events), len(frames))
    report("all of these", seconds(partial(events_of, is_wanted=IS_WANTED), frames), len(frames))


def seconds(step: Callable[[Any], Any], items: Iterable[Any]) -> float:
    """CPU seconds of the best of a few rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for item in items:
            step(item)
        best = min(best, time.process_time() - start)
    return best


async def measure_redis(frames: list[bytes], redis: Redis) -> None:
    """The step of each frame, and the script that judges them: ours, and what Redis spends in it."""
    results = [events_of(frame, IS_WANTED) for frame in frames]
    start = time.process_time()
    buffer = [told(result, units(result.events), "bench") for result in results]
    report("encode + step", time.process_time() - start, len(frames))
    writer, stop = writer_of(redis), asyncio.Event()
    await redis.config_resetstat()
    start, expected = time.process_time(), ""
    for number in range(0, len(buffer), BATCH):
        batch, new = buffer[number : number + BATCH], str(number + 1)
        await writer.append([frame.frame for frame in batch], CURSOR, expected, new, stop)
        expected = new
    report("redis client", time.process_time() - start, len(frames))
    stats = (await redis.info("commandstats"))["cmdstat_evalsha"]
    report("redis server", stats["usec"] / 1e6, len(frames))


async def measure_websocket(path: Path, recording: Recording, redis: Redis, mode: Mode, workers: int) -> None:
    """Our core does what the daemon does; the host, Redis and the workers are processes of their own."""
    account, meter = Account(FIREHOSE), HostMeter(FIREHOSE.name, "bench")
    async with host_process(path) as host, ClientSession() as http, reading(host, mode, workers) as read:
        url = f"{host}/xrpc/com.atproto.sync.subscribeRepos"
        subscription = Subscription(http, url, read, idle_seconds=60, account=account, meter=meter)
        limits = BatchLimits(BATCH, 8 << 20, 1.0)
        intake = Intake(
            redis,
            subscription,
            ChainedWriter(writer_of(redis), "bench"),
            cursor_key=CURSOR,
            limits=limits,
            account=account,
            meter=meter,
        )
        stop = asyncio.Event()
        wall, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(intake.run(stop))
            await until_at(recording.last_seq, redis)
            stop.set()
        wall, frames = time.perf_counter() - wall, len(recording.frames)
        report(f"{mode}, {workers} workers", time.process_time() - cpu, frames)
        entries = await redis.xlen(FIREHOSE_LIVE)
        print(f"{frames} frames, {entries} entries in {wall:.2f} s: {frames / wall:,.0f} frames/s; {load()}")


@asynccontextmanager
async def reading(host: str, mode: Mode, workers: int) -> AsyncIterator[Reading]:
    """Frames are read here, or by workers. The host is the directory, too."""
    async with AsyncExitStack() as stack:
        outbound = await stack.enter_async_context(Outbound(allow=[host.removeprefix("ws://")]))
        identities = Identities(outbound, host.replace("ws://", "http://"))
        keys = await stack.enter_async_context(SigningKeys(identities, Account(FIREHOSE)))
        reader: Reader = FrameReader(mode, IS_WANTED)
        if workers:
            reader = await stack.enter_async_context(Workers(workers, mode, LiveFilter(IS_WANTED)))
        yield partial(ReadAhead, reader, keys)


async def until_at(seq: int, redis: Redis) -> None:
    while int(await redis.get(CURSOR) or 0) < seq:
        await asyncio.sleep(0.05)


def writer_of(redis: Redis) -> FrameWriter:
    room = Room(redis, FIREHOSE_LIVE, 100_000_000)
    return FrameWriter(redis, FIREHOSE_LIVE, EVENT_FIELD, room, source_key="firehose_live:source:bench")


@asynccontextmanager
async def host_process(path: Path) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sluice.network", str(path), stdout=asyncio.subprocess.PIPE
    )
    try:
        line = (await process.stdout.readline()).decode() if process.stdout else ""
        yield line.split()[-1].replace("http://", "ws://")
    finally:
        process.terminate()
        await process.wait()


def report(step: str, cpu_seconds: float, frames: int) -> None:
    print(f"{step:18}{cpu_seconds / frames * 1e6:8.1f} us/frame{frames / cpu_seconds:12,.0f} frames/s of one core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    given = parser.parse_args().recording
    collect_garbage_seldom()
    asyncio.run(main(given.parent if given.name == "frames.bin" else given))
