"""Relays that repeat, go back and break off, with verification and chain as they are by default: nothing is lost."""

from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from common.repo_states import RepoStates
from sluice.feed import error_frame
from sluice.network import RecordedNetwork
from sluice.recording import Recording
from tests.ingesting import StartIngester, on_the_stream, recorded, until_cursor
from tests.recorded_network import StartNetwork
from tests.relays import with_frames
from tests.tellers import jobs

OpenRecording = Callable[[str], Recording]


async def check_in_step(redis: Redis, served: RecordedNetwork, frames: list[bytes]) -> None:
    """Every event once and in its order, and no repo to be fetched."""
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(frames)
    assert await jobs(redis) == []
    assert (await RepoStates(redis).counts()).desynchronised == 0


@pytest.mark.parametrize("workers", ["0", "2"])
async def test_numbers_that_come_twice_or_run_backwards_change_nothing(
    redis: Redis, recording: OpenRecording, ingester: StartIngester, workers: str
) -> None:
    """After every third frame it comes again, after every seventh the ten before it."""
    frames = list(recording("full").frames)
    told: list[bytes] = []
    for index, frame in enumerate(frames):
        again = frames[max(0, index - 10) : index] if index % 7 == 0 else []
        told += [frame, *again, *([frame] if index % 3 == 0 else [])]
    told.append(frames[-1])
    async with RecordedNetwork(with_frames(recording("full"), told)) as served:
        daemon = await ingester(served, INGESTER_WORKERS=workers)
        await check_in_step(redis, served, frames)
        metrics = await daemon.metrics()
    restated = len(recorded(frames, restated=True)) - len(recorded(frames))
    assert metrics["dropped_total reason=replayed"] == len(recorded(told, restated=True)) - len(
        recorded(frames, restated=True)
    )
    assert metrics["dropped_total reason=duplicate"] == restated
    assert metrics.unaccounted == 0


@pytest.mark.parametrize(
    ("name", "reason"), [("ConsumerTooSlow", "consumer_too_slow"), ("SomethingNew", "error_frame")]
)
async def test_errors_in_mid_stream_lose_and_repeat_nothing(
    redis: Redis, network: StartNetwork, ingester: StartIngester, name: str, reason: str
) -> None:
    served = await network("basic")
    served.firehose.faults.cut_after = 7
    served.firehose.faults.last_words = error_frame(name)
    daemon = await ingester(served)
    frames = list(served.recording.frames)
    await check_in_step(redis, served, frames)
    metrics = await daemon.metrics()
    assert metrics[f"errors_by_reason_total reason={reason}"] >= len(frames) // 7
    assert metrics.unaccounted == 0


async def test_a_connection_that_ends_at_every_frame_keeps_everyone_in_step(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    served.firehose.faults.cut_after = 1
    daemon = await ingester(served)
    frames = list(served.recording.frames)
    await check_in_step(redis, served, frames)
    metrics = await daemon.metrics()
    assert metrics["errors_by_reason_total reason=closed"] >= len(frames) - 1
    assert metrics.unaccounted == 0
