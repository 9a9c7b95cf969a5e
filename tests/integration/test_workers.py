"""Worker processes that read frames: in step, replaced when they die, never left behind."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.machine import Process, processes
from common.collection_filter import CollectionFilter
from common.errors import BadInput
from ingester import workers
from ingester.controls import LiveFilter
from ingester.frame_reader import FrameReader, KeyAnswer, Outcome, Want
from ingester.framing import FrameResult
from ingester.verification import Mode
from ingester.workers import DEATHS_OF_A_FRAME, Workers
from tests.conftest import OpenRecording
from tests.deadly_worker import DEADLY, ENDLESS
from tests.recorded_frames import BASIC
from tests.samples import sample
from tests.signed_commits import Writer, frame
from tests.signed_repos import DID, Signer, record
from tests.waiting import until

EVERYTHING = LiveFilter(CollectionFilter(("*",)))
SIGNER = Signer()


def deadly(count: int = 2) -> Workers:
    return Workers(count, Mode.OFF, EVERYTHING, module="tests.deadly_worker")


def ours() -> list[Process]:
    """The workers that this process has started."""
    return [each for each in processes() if each.parent == os.getpid() and "worker" in each.command]


def deaths() -> float:
    return sample("ingester_errors_by_reason_total", source="firehose", reason="worker_died")


async def outcomes(pool: Workers, frames: Sequence[bytes]) -> list[Outcome]:
    async with asyncio.timeout(60):
        return await asyncio.gather(*(pool.read(raw) for raw in frames))


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def is_killer(outcome: Outcome) -> bool:
    return isinstance(outcome, BadInput) and outcome.reason == "killed_workers"


async def test_workers_read_frames_as_we_would(recording: OpenRecording) -> None:
    frames, here = list(recording("full").frames), FrameReader(Mode.OFF, EVERYTHING)
    async with Workers(2, Mode.OFF, EVERYTHING) as pool:
        assert await outcomes(pool, frames) == [here.read(raw) for raw in frames]


async def test_a_frame_that_cannot_be_read_is_told_as_such() -> None:
    async with Workers(1, Mode.OFF, EVERYTHING) as pool:
        (found,) = await outcomes(pool, [b"\xff"])
    assert isinstance(found, BadInput)
    assert (found.reason, found.detail) == ("bad_cbor", FrameReader(Mode.OFF, EVERYTHING).read(b"\xff").detail)  # type: ignore[union-attr]


async def test_a_key_is_handed_over_once_and_forgotten_by_all() -> None:
    writer = Writer(signer=SIGNER)
    async with Workers(1, Mode.STRICT, EVERYTHING) as pool:
        assert await pool.read(frame("#commit", writer.write({}))) == Want(DID, None)
        first = await pool.read(frame("#commit", writer.write({})), KeyAnswer(DID, SIGNER.public))
        assert isinstance(first, FrameResult)
        assert isinstance(await pool.read(frame("#commit", writer.write({}))), FrameResult)
        pool.forget(DID)
        assert await pool.read(frame("#commit", writer.write({}))) == Want(DID, None)


async def test_what_one_worker_has_asked_for_all_know() -> None:
    writer = Writer(signer=SIGNER)
    async with Workers(2, Mode.STRICT, EVERYTHING) as pool:
        raw = frame("#commit", writer.write({}))
        assert await pool.read(raw) == Want(DID, None)
        assert isinstance(await pool.read(raw, KeyAnswer(DID, SIGNER.public)), FrameResult)
        assert sum(map(bool, pool._keys)) == 1  # the other has still to be told
        while any(pool._keys):
            found = await outcomes(pool, [frame("#commit", writer.write({})) for _ in range(100)])
            assert all(isinstance(each, FrameResult) for each in found)


async def test_a_frame_whose_key_has_come_is_read_before_those_that_wait() -> None:
    first, *others = [frame("#commit", Writer(signer=SIGNER).write({})) for _ in range(2000)]
    async with Workers(1, Mode.STRICT, EVERYTHING) as pool:
        await pool.read(first)
        waiting = [pool.read(raw) for raw in others]
        await pool.read(first, KeyAnswer(DID, SIGNER.public))
        assert sum(each.done() for each in waiting) < len(waiting) / 2
        await asyncio.wait(waiting)


async def test_keys_are_told_to_a_worker_that_has_nothing_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MOST_KEYS", 10)
    async with Workers(1, Mode.OFF, EVERYTHING) as pool:
        await pool.read(BASIC[0])
        for number in range(10):
            pool.forget(f"did:plc:{number}")
        await until(lambda: pool._keys == [{}])


async def test_a_filter_that_changes_holds_from_the_next_frame_on() -> None:
    raw = frame("#commit", Writer(signer=SIGNER).write({"app.bsky.feed.post/3k": record("one")}))
    filter = LiveFilter(CollectionFilter(("*",)))
    async with Workers(1, Mode.OFF, filter) as pool:
        before = await pool.read(raw)
        filter.chosen = CollectionFilter(("com.example.*",))
        after = await pool.read(raw)
    assert isinstance(before, FrameResult)
    assert isinstance(after, FrameResult)
    assert (before.filtered, after.filtered) == (0, 1)


async def test_a_worker_that_is_killed_costs_nothing_and_is_replaced() -> None:
    before = deaths()
    async with Workers(2, Mode.OFF, EVERYTHING) as pool:
        expected = await outcomes(pool, BASIC)
        for victim in ours():
            os.kill(victim.pid, signal.SIGKILL)
        assert await outcomes(pool, BASIC * 20) == expected * 20
        await until(lambda: deaths() == before + 2)
        await until(lambda: len(ours()) == 2)


async def test_a_worker_that_is_killed_before_it_is_there_is_replaced() -> None:
    before = deaths()
    async with Workers(1, Mode.OFF, EVERYTHING) as pool:
        (victim,) = await until(ours)
        os.kill(victim.pid, signal.SIGKILL)
        assert isinstance(await pool.read(BASIC[0]), FrameResult)
    assert deaths() == before + 1


async def test_a_worker_that_dies_idle_is_replaced_before_it_is_needed() -> None:
    before = deaths()
    async with Workers(1, Mode.OFF, EVERYTHING) as pool:
        await pool.read(BASIC[0])
        (victim,) = ours()
        os.kill(victim.pid, signal.SIGKILL)
        await until(lambda: deaths() == before + 1)
        await until(lambda: [each.pid for each in ours()] not in ([], [victim.pid]))
        assert isinstance(await pool.read(BASIC[0]), FrameResult)


async def test_a_frame_that_kills_workers_is_given_up_and_costs_no_other() -> None:
    before = deaths()
    async with deadly() as pool:
        found = await outcomes(pool, [*BASIC, DEADLY, *BASIC])
    assert [index for index, each in enumerate(found) if is_killer(each)] == [len(BASIC)]
    assert sum(isinstance(each, FrameResult) for each in found) == 2 * len(BASIC)
    assert deaths() == before + DEATHS_OF_A_FRAME


async def test_a_worker_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BATCH_SECONDS", 1.0)
    monkeypatch.setattr(workers, "STOP_SECONDS", 0.1)
    async with deadly(1) as pool:
        found = await outcomes(pool, [ENDLESS, *BASIC])
    assert is_killer(found[0])
    assert all(isinstance(each, FrameResult) for each in found[1:])


async def test_a_worker_that_cannot_start_is_our_own_fault() -> None:
    with pytest.raises(BaseExceptionGroup) as failure:
        async with Workers(1, Mode.OFF, EVERYTHING, module="tests.no_such_module") as pool:
            await pool.read(BASIC[0])
    assert failure.group_contains(RuntimeError, match="does not start")


async def test_no_worker_outlives_its_pool() -> None:
    async with Workers(2, Mode.OFF, EVERYTHING) as pool:
        await pool.read(BASIC[0])
        pids = [each.pid for each in ours()]
    assert pids
    assert ours() == []


async def test_a_worker_knows_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@localhost")
    async with Workers(1, Mode.OFF, EVERYTHING) as pool:
        await pool.read(BASIC[0])
        (worker,) = ours()
        environment = environment_of(worker.pid)
    assert b"PATH=" in environment
    assert b"secret" not in environment
