"""Hosts that mean harm, each with its number in the list of faults: refused with a reason, while others go on.

F-B5 and F-B13 (identities) are in test_hostile_identities.py, F-B14 (handles that others claim) in test_handles.py,
F-B15 (a repo that changes meanwhile) in test_changing_repos.py, F-B12 (a dead host) in test_backfiller_places.py,
F-B16 (a full output) in test_backfiller_pressure.py; every form of a damaged CAR, tree and address is in
the unit tests of car, repo, unpack and public addresses.
"""

import asyncio
import gzip
import os
import sys

import pytest
from aiohttp import web
from redis.asyncio import Redis

from bench.machine import peak_rss_mb
from sluice.server import free_port
from tests.backfilling import (
    DLQ,
    OUTPUT,
    PARKED,
    Answer,
    backfiller,
    enqueue,
    environment,
    host,
    idle,
    output,
    refusal,
    work_off,
)
from tests.commands import ROOT
from tests.hostility import CASES, GOOD, RECORDS, SIGNER, WHOLE, Case, deep, ended, pour_zeros, streamed
from tests.samples import sample
from tests.signed_repos import DID, repo
from tests.waiting import until


async def settled(hostile_answer: Answer, redis: Redis, redis_url: str, **settings: str) -> int:
    """Backfills DID from the host with this answer, and others from a good one, two at once. How often it was asked.

    Each host has one turn, so a slot that does not come back would stop the others of the second round.
    """
    async with host() as hostile, host() as pds:
        hostile.serve_made(DID, SIGNER, hostile_answer)
        pds.documents[DID] = hostile.documents[DID]
        for did in GOOD:
            pds.serve_made(did, SIGNER, repo(RECORDS, SIGNER, did=did))
        await ended(pds, redis, environment(redis_url, pds.url, hostile.url, **settings))
        return hostile.requests[DID]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_hostile_answer_is_refused_and_costs_nobody_else(case: Case, redis: Redis, redis_url: str) -> None:
    before = sample("backfiller_failures_by_reason_total", reason=case.error)
    asked = await settled(case.answer, redis, redis_url, **case.settings)
    assert asked == case.asked
    [(_, letter)] = await redis.xrange(DLQ)
    assert letter[b"error"].decode() == case.error
    assert sample("backfiller_failures_by_reason_total", reason=case.error) == before + 1


async def test_f_b7_a_bomb_of_a_record_is_a_record_that_cannot_be_read(redis: Redis, redis_url: str) -> None:
    """It costs no other record of its repo, and nobody else."""
    bombs = [deep(1_000_000), b"\x9b\x7f" + b"\xff" * 7, b"\xbb" + b"\xff" * 8]
    records = RECORDS | {f"app.bsky.feed.like/3mfxgt2k7ir2{n}": bomb for n, bomb in zip("abc", bombs, strict=True)}
    before = sample("backfiller_records_unreadable_total")
    async with host() as pds:
        pds.serve_made(DID, SIGNER, repo(records, SIGNER))
        await enqueue(redis, [DID])
        await work_off(redis, environment(redis_url, pds.url))
    emitted = (await output(redis))[DID]
    assert emitted.whole
    assert {path for path, cid in emitted.paths.items() if cid is not None} == set(RECORDS)
    assert sample("backfiller_records_unreadable_total") == before + len(bombs)


async def test_f_b10_an_older_repo_of_the_right_key_is_refused(redis: Redis, redis_url: str) -> None:
    async with host() as pds:
        pds.serve_made(DID, SIGNER, repo(RECORDS, SIGNER, rev="3mfxgt2k7irb2"))
        await enqueue(redis, [DID], rev="3mfxgt2k7irc2")
        async with backfiller(environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="2")):
            await until(lambda: redis.xlen(DLQ))
    [(_, letter)] = await redis.xrange(DLQ)
    assert letter[b"error"] == b"stale_repo"
    assert not await redis.xlen(OUTPUT)


@pytest.mark.parametrize("status", [429, 503])
async def test_f_b11_a_rest_of_years_is_an_hour(status: int, redis: Redis, redis_url: str) -> None:
    async with host() as pds:
        pds.serve_made(DID, SIGNER, web.Response(status=status, headers={"Retry-After": "999999999"}))
        await enqueue(redis, [DID])
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: redis.zcard(PARKED))
    [(_, due)] = await redis.zrange(PARKED, 0, -1, withscores=True)
    seconds, _ = await redis.time()
    assert 3500 < due / 1000 - seconds <= 3601


@pytest.mark.parametrize("error", ["RepoNotFound", "RepoTakendown", "RepoSuspended", "RepoDeactivated"])
async def test_f_b11_a_repo_that_is_not_to_be_had_is_no_dead_letter(error: str, redis: Redis, redis_url: str) -> None:
    assert await settled(refusal(error), redis, redis_url) == 1
    assert not await redis.xlen(DLQ)
    assert await redis.zcard("repo_backfill:recheck") == 1


async def test_a_flood_of_zeros_and_a_bomb_leave_the_memory_of_the_daemon_flat(redis: Redis, redis_url: str) -> None:
    """F-B2, F-B3: five hundred megabytes come, half of them to disk; the rest of it is not even read."""
    limits = {"BACKFILLER_MAX_CAR_BYTES": "250000000", "BACKFILLER_MEMORY_BYTES": "8000000"}
    bomb = gzip.compress(bytes(100_000_000))
    async with host() as pds:
        for did, answer in zip(GOOD, (streamed(then=pour_zeros), streamed(then=pour_zeros), bomb), strict=True):
            pds.serve_made(did, SIGNER, answer)
        pds.serve_made(DID, SIGNER, WHOLE)
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "backfiller"),
            cwd=ROOT,
            env={
                **os.environ,
                **environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="1", **limits),
                "BACKFILLER_METRICS_PORT": str(free_port()),
            },
        )
        try:
            await enqueue(redis, [DID])
            await until(lambda: redis.xlen(OUTPUT))
            usual = peak_rss_mb(running.pid)
            await enqueue(redis, GOOD)
            await until(lambda: idle(redis))
            assert peak_rss_mb(running.pid) < usual + 60
        finally:
            running.kill()
            await running.wait()
    errors = sorted(letter[b"error"].decode() for _, letter in await redis.xrange(DLQ))
    assert errors == ["bad_car", "too_large", "too_large"]
