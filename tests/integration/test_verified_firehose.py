"""The ingester as a process on a firehose that is not all honest, with keys that come late, change or never come."""

import json
import os
import signal
from typing import Any

import pytest
from redis.asyncio import Redis

from bench.machine import processes
from common.streams import REPO_BACKFILL_HIGH
from sluice.network import RecordedNetwork
from tests.ingesting import (
    Ingester,
    StartIngester,
    on_the_stream,
    recorded,
    until_cursor,
    until_metric,
)
from tests.labelers import document
from tests.recorded_network import StartNetwork
from tests.signed_commits import Writer, frame
from tests.signed_repos import Signer, record
from tests.waiting import until

ALICE, BOB = "did:plc:alicealicealicealicealic", "did:plc:bobbobbobbobbobbobbobbob"
POSTS = [f"app.bsky.feed.post/3mfxgt2k7{number:04d}" for number in range(20)]


class Account:
    """A writer that the directory knows, and whose frames the relay sends."""

    def __init__(self, served: RecordedNetwork, did: str, number: int) -> None:
        self._served = served
        self._writer = Writer(did=did, signer=Signer(number=number))
        self.rotate(number)

    def rotate(self, number: int) -> None:
        """Another key from now on, and nobody is told."""
        self._writer.signer = Signer(number=number)
        pds = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": self._served.url}
        found = document(self._writer.signer, self._writer.did, key="#atproto")
        self._served.documents[self._writer.did] = found | {"service": [pds]}

    def write(self, *paths: str) -> dict[str, Any]:
        return self._writer.write({path: record(f"{path} {self._writer.commits}") for path in paths})

    def say(self, body: dict[str, Any], kind: str = "#commit") -> None:
        self._served.firehose.append(frame(kind, body, self._served.firehose.last_seq + 1))

    def post(self, *paths: str) -> None:
        self.say(self.write(*paths))

    def say_identity(self) -> None:
        self.say({"did": self._writer.did}, "#identity")


async def posts_of(redis: Redis, did: str) -> list[str]:
    return [f"{path}" for _, _, whose, path, _ in await on_the_stream(redis) if whose == did and path]


async def jobs(redis: Redis) -> list[tuple[str, str]]:
    entries: Any = await redis.xrange(REPO_BACKFILL_HIGH)
    found = [json.loads(fields[b"repo"]) for _, fields in entries]
    return [(job["did"], job["reason"]) for job in found]


@pytest.mark.parametrize("workers", ["0", "2"])
async def test_a_whole_network_is_verified_and_told_in_its_order(
    redis: Redis, network: StartNetwork, ingester: StartIngester, workers: str
) -> None:
    served = await network("load-tiny")
    daemon = await ingester(served, INGESTER_WORKERS=workers)
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)
    metrics = await daemon.metrics()
    kinds = served.recording.count_operations().frames
    assert metrics["commits_total result=whole"] == kinds["#commit"]
    assert metrics["commits_total result=signed"] == kinds["#sync"]
    assert len(workers_of(daemon)) == int(workers)
    assert metrics["sluice_identity_lookups_total result=network"] >= len(served.recording.dids)
    assert metrics["dropped_total source=firehose"] == metrics["dropped_total reason=duplicate"]
    assert metrics.unaccounted == 0
    assert await jobs(redis) == []


@pytest.mark.parametrize("workers", ["0", "1"])
async def test_what_is_forged_is_dropped_and_its_repo_fetched_and_the_rest_goes_on(
    redis: Redis, network: StartNetwork, ingester: StartIngester, workers: str
) -> None:
    served = await network("basic")
    alice, bob = Account(served, ALICE, 5), Account(served, BOB, 6)
    alice.post(POSTS[0])
    alice.say(alice.write(POSTS[1]) | {"ops": []})
    bob.post(POSTS[2])
    daemon = await ingester(served, INGESTER_WORKERS=workers)
    await until_cursor(redis, served)
    metrics = await until_metric(daemon, "dropped_total reason=inversion_failed", lambda dropped: dropped == 1)
    assert await posts_of(redis, ALICE) == [POSTS[0]]
    assert await posts_of(redis, BOB) == [POSTS[2]]
    assert [did for did, _ in await jobs(redis)] == [ALICE]
    assert metrics.unaccounted == 0


async def test_a_key_that_changes_in_mid_stream_costs_nothing(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    alice = Account(served, ALICE, 5)
    for path in POSTS[:5]:
        alice.post(path)
    daemon = await ingester(served)
    await until_cursor(redis, served)
    alice.rotate(6)
    alice.say_identity()
    for path in POSTS[5:10]:
        alice.post(path)
    await until_cursor(redis, served)
    assert await posts_of(redis, ALICE) == POSTS[:10]
    assert (await daemon.metrics())["dropped_total reason=bad_signature"] == 0


async def test_the_key_of_before_is_nobodys_once_it_has_changed(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    alice = Account(served, ALICE, 5)
    alice.post(POSTS[0])
    daemon = await ingester(served)
    await until_cursor(redis, served)
    forged = alice.write(POSTS[1])
    alice.rotate(6)
    alice.say_identity()
    await until_cursor(redis, served)
    alice.say(forged)
    await until_cursor(redis, served)
    assert await posts_of(redis, ALICE) == [POSTS[0]]
    assert (await daemon.metrics())["dropped_total reason=bad_signature"] == 1


async def test_commits_wait_for_the_directory_and_none_is_lost(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    served.faults.statuses["/did:plc:"] = 500
    daemon = await ingester(served)
    waiting = await until_metric(daemon, "errors_by_reason_total reason=no_did_document", lambda errors: errors >= 3)
    assert waiting["stream_events_total"] < len(recorded(served.recording.frames))
    del served.faults.statuses["/did:plc:"]
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)
    metrics = await daemon.metrics()
    assert metrics["dropped_total source=firehose"] == metrics["dropped_total reason=duplicate"]
    assert daemon.messages().count("no DID document to verify commits with, waiting") == 1


async def test_one_document_that_cannot_be_had_stops_nobody_else(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    alice, bob = Account(served, ALICE, 5), Account(served, BOB, 6)
    served.faults.statuses[ALICE] = 500
    alice.post(POSTS[0])
    bob.post(POSTS[1])
    daemon = await ingester(served)
    await until_cursor(redis, served)
    assert (await posts_of(redis, ALICE), await posts_of(redis, BOB)) == ([], [POSTS[1]])
    assert [did for did, _ in await jobs(redis)] == [ALICE]
    assert (await daemon.metrics())["dropped_total reason=no_did_document"] == 1


async def test_a_restart_asks_for_no_key_that_was_had_before(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    alice = Account(served, ALICE, 5)
    alice.post(POSTS[0])
    daemon = await ingester(served)
    await until_cursor(redis, served)
    assert await daemon.end() == 0
    alice.post(POSTS[1])
    again = await ingester(served)
    await until_cursor(redis, served)
    assert await posts_of(redis, ALICE) == POSTS[:2]
    assert (await again.metrics())["sluice_identity_lookups_total result=shared"] == served.requests[f"/{ALICE}"] == 1


def workers_of(daemon: Ingester) -> list[int]:
    return [each.pid for each in processes() if each.parent == daemon.process.pid and "worker_process" in each.command]


def are_gone(pids: list[int]) -> bool:
    return not {each.pid for each in processes() if "worker_process" in each.command} & {*pids}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
async def test_no_worker_outlives_the_daemon(
    redis: Redis, network: StartNetwork, ingester: StartIngester, signum: signal.Signals
) -> None:
    served = await network("basic")
    daemon = await ingester(served, INGESTER_WORKERS="2")
    await until_cursor(redis, served)
    pids = workers_of(daemon)
    assert len(pids) == 2
    assert await daemon.end(signum) == (0 if signum is signal.SIGTERM else -signum)
    await until(lambda: are_gone(pids))


async def test_a_stop_that_reaches_the_workers_too_loses_nothing_in_hand(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    """As an operator's Ctrl-C does, or a supervisor that signals every process of a service."""
    served = await network("load-tiny", pace=1000)
    daemon = await ingester(served, INGESTER_WORKERS="2")
    await until_cursor(redis, served, 200)
    for pid in workers_of(daemon):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert await daemon.end() == 0
    assert "a worker died, starting another" not in daemon.messages()
    await ingester(served)
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)


async def test_workers_killed_in_mid_stream_lose_and_repeat_nothing(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("load-tiny", pace=1000)
    daemon = await ingester(served, INGESTER_WORKERS="2")
    for at_least in (300, 900, 1500):
        await until_cursor(redis, served, at_least)
        for pid in workers_of(daemon):
            os.kill(pid, signal.SIGKILL)
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)
    assert (await daemon.metrics())["errors_by_reason_total reason=worker_died"] >= 3


async def test_a_mode_that_is_none_is_refused_at_the_start(network: StartNetwork, ingester: StartIngester) -> None:
    served = await network("basic")
    for name, value in (("INGESTER_VERIFY", "maybe"), ("INGESTER_WORKERS", "1000")):
        daemon = await ingester(served, **{name: value})
        assert await daemon.process.wait() == 2
        assert f"cannot start: {name}" in "".join(daemon.lines)
