"""Verifying the firehose: what each step of a commit costs, here and in worker processes.

python -m bench.verify RECORDING   (a folder or a .tar.zst; a load pack, for commits grow with their repos)
"""

import argparse
import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from bench.ingest import report, sample, seconds
from bench.machine import Process, load, peak_rss_mb, processes, wanted_seconds
from common.car import check_hash, split_car
from common.collection_filter import CollectionFilter
from common.daemon import collect_garbage_seldom
from common.inversion import KnownTree, check_outcome, known_tree, leads_back_to
from common.keys import PublicKey, key_in_document, verify
from common.repo import read_commit as read_signed
from ingester.commits import Commit, read_commit
from ingester.controls import LiveFilter
from ingester.frame_reader import FrameReader, KeyAnswer, Outcome, Want
from ingester.framing import FrameResult, Proof, read_message
from ingester.verification import Mode, changes_of
from ingester.workers import Workers
from sluice.recording import Recording

IS_WANTED = CollectionFilter(("app.bsky.*", "chat.bsky.*"))
WORKERS, AHEAD = (1, 2), 512
Keys = dict[str, PublicKey]


async def main(path: Path) -> None:
    with Recording.open(path) as recording:
        keys = {did: key_in_document(document, did) for did, document in recording.dids.items()}
        frames = [frame for frame in sample(recording) if read_message(frame).kind == "#commit"]
        print(f"{len(frames):,} commits of {sum(map(len, frames)) / len(frames):,.0f} bytes, {load()}")
        measure_steps(frames, keys)
        for mode in (Mode.STRICT, Mode.OFF):
            reader = FrameReader(mode, IS_WANTED)
            check(mode, [read_with_key(reader, keys, frame) for frame in frames])
            report(f"all, {mode}", seconds(reader.read, frames), len(frames))
        for count in WORKERS:
            await measure_workers(count, frames, keys)


def measure_steps(frames: list[bytes], keys: Keys) -> None:
    messages = [read_message(frame) for frame in frames]
    commits = [read_commit(message) for message in messages]
    report_step("CBOR of the frame", read_message, frames)
    report_step("CAR", split_car, [message.body["blocks"] for message in messages])
    report_step("hashes", check_hashes, [commit.car.blocks for commit in commits])
    report_step("commit object", read_signed, [commit.car.blocks[commit.car.root] for commit in commits])
    report_step("signature", partial(is_signed, keys), commits)
    report_step("operations", lambda commit: changes_of(commit.ops), commits)
    report_step("tree", tree_of, commits)
    report_step("inversion", invert, [(tree_of(commit), changes_of(commit.ops), commit) for commit in commits])


def report_step(name: str, step: Callable[[Any], Any], items: Iterable[Any]) -> None:
    items = list(items)
    report(name, seconds(step, items), len(items))


def check_hashes(blocks: dict[bytes, bytes]) -> None:
    for cid, block in blocks.items():
        check_hash(cid, block)


def is_signed(keys: Keys, commit: Commit) -> bool:
    return commit.signed is not None and verify(keys[commit.did], commit.signed.unsigned, commit.signed.sig)


def tree_of(commit: Commit) -> KnownTree:
    return known_tree(commit.car.blocks, commit.link.data if commit.link else b"")


def invert(each: Any) -> None:
    tree, changes, commit = each
    check_outcome(tree, changes)
    leads_back_to(commit.prev_data, tree, changes)


def read_with_key(reader: FrameReader, keys: Keys, frame: bytes) -> Outcome:
    found = reader.read(frame)
    return reader.read(frame, KeyAnswer(found.did, keys[found.did])) if isinstance(found, Want) else found


def check(mode: Mode, outcomes: Iterable[Outcome]) -> None:
    """A benchmark of something wrong is worth nothing."""
    expected = Proof.WHOLE if mode is Mode.STRICT else Proof.NONE
    if not all(isinstance(found, FrameResult) and found.proof is expected for found in outcomes):
        raise SystemExit("not every commit was verified")


async def measure_workers(count: int, frames: list[bytes], keys: Keys) -> None:
    """Twice: the first time the workers learn the keys."""
    async with Workers(count, Mode.STRICT, LiveFilter(IS_WANTED)) as pool:
        for _ in range(2):
            wall, here, there = time.perf_counter(), time.process_time(), workers_cpu_seconds()
            wanted = workers_wanted_seconds()
            check(Mode.STRICT, [found async for found in read_by(pool, frames, keys)])
            wall, here = time.perf_counter() - wall, time.process_time() - here
            there = workers_cpu_seconds() - there
            idle = count * wall - (workers_wanted_seconds() - wanted)
        memory = [f"{peak_rss_mb(each.pid):.0f}" for each in our_workers()]
    print(
        f"{count} workers: {len(frames) / wall:,.0f} commits/s, with {(here + there) / wall:.2f} cores;"
        f" {here / len(frames) * 1e6:.1f} us each here, {there / len(frames) * 1e6:.1f} there;"
        f" workers idle {max(0.0, idle / count / wall):.1%}; {', '.join(memory)} MB a worker; {load()}"
    )


def our_workers() -> list[Process]:
    return [each for each in processes() if each.parent == os.getpid() and "ingester.worker_process" in each.command]


def workers_cpu_seconds() -> float:
    return sum(each.cpu_seconds for each in our_workers())


def workers_wanted_seconds() -> float:
    return sum(wanted_seconds(each.pid) for each in our_workers())


async def read_by(pool: Workers, frames: list[bytes], keys: Keys) -> Any:
    ahead: deque[tuple[bytes, asyncio.Future[Outcome]]] = deque()
    for frame in [*frames, *[b""] * AHEAD]:
        if len(ahead) == AHEAD or not frame:
            if not ahead:
                return
            first, outcome = ahead.popleft()
            found = await outcome
            yield await pool.read(first, KeyAnswer(found.did, keys[found.did])) if isinstance(found, Want) else found
        if frame:
            ahead.append((frame, pool.read(frame)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    given = parser.parse_args().recording
    collect_garbage_seldom()
    asyncio.run(main(given.parent if given.name == "frames.bin" else given))
