"""The ingester as a process: its metrics, its cursors, and what it needs to start."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from redis.asyncio import Redis

from common.dag_cbor import decode_header_and_body
from sluice.contract import INGESTER
from sluice.network import RecordedNetwork
from sluice.recording import Recording
from sluice.server import free_port
from tests.ingesting import (
    IDENTITY,
    StartIngester,
    host,
    on_the_stream,
    padded_identity,
    recorded,
    until_cursor,
    until_listed,
    until_metric,
)
from tests.recorded_network import StartNetwork
from tests.waiting import until


async def test_every_metric_of_the_contract_is_there_from_the_start_and_adds_up(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    daemon = await ingester(served, INGESTER_MODE="all", INGESTER_COLLECTIONS="app.bsky.*")
    await until_cursor(redis, served)
    live = await redis.xlen("firehose_live")
    metrics = await until_metric(daemon, "firehose_live_length", lambda length: length == live)
    assert {name.removeprefix("ingester_") for name in INGESTER} <= set(metrics)
    paths = [path for _, _, _, path, _ in recorded(served.recording.frames) if path]
    filtered = sum(not path.startswith("app.bsky.") for path in paths)
    assert metrics["firehose_filtered_operations_total"] == filtered > 0
    assert metrics["websocket_connections"] == 1
    assert metrics["firehose_events_total"] - metrics["dropped_total reason=duplicate"] == live
    assert metrics["stream_events_total"] == metrics["written_total source=firehose"] == live
    assert metrics["frames_total kind=#sync"] == served.recording.count_operations().frames["#sync"] > 0
    assert metrics["dropped_total reason=duplicate"] == metrics["chain_total result=duplicate"] > 0
    assert metrics["repos_known"] == len(dids_of(served.recording.frames))
    assert metrics["upstream_cursor"] == metrics["upstream_received_seq"] == served.firehose.last_seq
    assert metrics.unaccounted == 0


def dids_of(frames: Iterable[bytes]) -> set[str]:
    bodies = [decode_header_and_body(frame)[1] for frame in frames]
    return {body.get("repo") or body["did"] for body in bodies}


async def test_a_cursor_set_back_by_hand_is_followed(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    await ingester(served)
    await until_cursor(redis, served)
    last, events = served.firehose.last_seq, recorded(served.recording.frames)
    await redis.set(f"firehose_live:cursor:{host(served)}", "20")
    served.firehose.append(padded_identity(last + 1, 0))
    await until_cursor(redis, served)
    again = [event for event in recorded(served.recording.frames, restated=True) if event[0] > 20]
    assert await on_the_stream(redis) == [*events, *again, (last + 1, "identity", IDENTITY, "", None)]


async def test_each_relay_has_a_cursor_of_its_own(redis: Redis, network: StartNetwork, ingester: StartIngester) -> None:
    one, two = await network("basic"), await network("follows")
    await ingester(one, two, INGESTER_VERIFY="off")  # neither directory knows the other's accounts
    await until_cursor(redis, one)
    await until_cursor(redis, two)
    both = recorded(one.recording.frames) + recorded(two.recording.frames)
    assert Counter(await on_the_stream(redis)) == Counter(both)


async def test_a_host_that_is_not_there_yet_is_waited_for(
    redis: Redis, recording: Callable[[str], Recording], redis_url: str, ingester: StartIngester
) -> None:
    port = free_port()
    daemon = await ingester(INGESTER_RELAY_HOSTS=f"ws://127.0.0.1:{port}")
    await until_metric(daemon, "errors_total", lambda errors: errors >= 2)
    assert daemon.messages() == ["not connected, trying again"]
    async with RecordedNetwork(recording("basic"), port=port) as served:
        await until_cursor(redis, served)
    assert await daemon.end() == 0


async def test_without_labelers_the_daemon_stays_up(redis: Redis, ingester: StartIngester) -> None:
    daemon = await ingester(INGESTER_MODE="labeler", INGESTER_RELAY_HOSTS="bsky.network")
    await until_metric(daemon, "label_live_length", lambda length: length == 0)
    await until(daemon.is_ready)
    assert await daemon.end() == 0


async def test_a_finished_listing_does_not_end_the_daemon(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    daemon = await ingester(served, INGESTER_MODE="backfill")
    await until_metric(daemon, "written_total source=listing", lambda repos: repos == len(served.recording.repos))
    await until_listed(redis, served)
    assert await redis.xlen("repo_backfill") == len(served.recording.repos)
    assert await daemon.end() == 0


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("INGESTER_RELAY_HOSTS", "bsky network", "cannot start: INGESTER_RELAY_HOSTS: 'bsky network' is no host"),
        ("INGESTER_BATCHSIZE", "5", "cannot start: settings: INGESTER_BATCHSIZE is unknown"),
        ("REDIS_URL", "redis://127.0.0.1:1", "cannot start: redis does not answer"),
    ],
)
async def test_what_cannot_work_stops_the_start_with_one_line(
    ingester: StartIngester, variable: str, value: str, says: str
) -> None:
    daemon = await ingester(**{variable: value})
    async with asyncio.timeout(30):
        assert await daemon.process.wait() == 2
    assert [line.startswith(says) for line in daemon.lines] == [True]


async def test_a_cursor_that_is_no_number_is_not_guessed_at(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    await redis.set(f"firehose_live:cursor:{host(served)}", "seventeen")
    daemon = await ingester(served)
    async with asyncio.timeout(30):
        assert await daemon.process.wait() == 2
    assert "holds 'seventeen', which is no sequence number" in daemon.lines[-1]
