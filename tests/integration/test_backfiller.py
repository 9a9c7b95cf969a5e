"""A DID -> its records on a stream, and what becomes of jobs that fail: a real Redis, a network on loopback."""

import json
import time

import pytest
from redis.asyncio import Redis

from backfiller.ledger import Ledger
from common.syntax import tid_at
from sluice.recording import Recording
from tests.backfilling import (
    DLQ,
    INPUT,
    LEDGER,
    OUTPUT,
    PARKED,
    backfiller,
    enqueue,
    environment,
    host,
    idle,
    leaves,
    no_pending,
    ours,
    output,
    refusal,
    work_off,
)
from tests.recorded_network import StartNetwork
from tests.samples import sample
from tests.signed_repos import DID, Signer, record
from tests.signed_repos import repo as signed_repo
from tests.waiting import until


@pytest.mark.parametrize("name", ["full", "load-tiny"])
async def test_every_record_of_every_repo_comes_out_once(
    name: str, network: StartNetwork, redis: Redis, redis_url: str
) -> None:
    served = await network(name)
    repos = served.recording.repos
    before = {counter: sample(f"backfiller_{counter}_total") for counter in LEDGER}
    await enqueue(redis, [repo.did for repo in repos])
    async with backfiller(environment(redis_url, served.url)):
        await until(lambda: idle(redis))
        found = await output(redis)
    cars = {repo.did: leaves(served.recording.car(repo.did) or b"") for repo in repos if repo.active}
    assert found.keys() == cars.keys()
    for repo in repos:
        if not repo.active:
            continue
        emitted = found[repo.did]
        assert emitted.whole
        assert emitted.in_order
        assert emitted.closing is not None
        assert (emitted.closing["rev"], emitted.closing["commit"]) == (repo.rev, repo.head)
        assert emitted.paths == ours(cars[repo.did])
    assert await redis.xlen(OUTPUT) == sum(len(ours(paths)) + 1 for paths in cars.values())
    assert await redis.xlen(DLQ) == 0
    moved = {counter: sample(f"backfiller_{counter}_total") - before[counter] for counter in LEDGER}
    assert moved["repos_processed"] == len(cars)
    assert moved["repos_failed"] == 0
    assert moved["records_extracted"] + moved["records_unreadable"] == sum(len(ours(paths)) for paths in cars.values())
    entries = [entry async for _, entry in Ledger(redis, INPUT).entries()]
    assert sum(entry.filtered for entry in entries) == sum(len(paths) - len(ours(paths)) for paths in cars.values())


async def test_a_car_that_breaks_off_is_fetched_again(redis: Redis, redis_url: str, basic: Recording) -> None:
    did = basic.repos[0].did
    car = basic.car(did)
    assert car is not None
    before = sample("backfiller_retries_attempted_total"), sample("backfiller_car_parse_errors_total")
    async with host() as pds:
        pds.serve(basic, did, car[: len(car) // 2], car[: block_boundary(car)])
        await enqueue(redis, [did])
        await work_off(redis, environment(redis_url, pds.url))
        assert pds.requests[did] == 3
    emitted = (await output(redis))[did]
    assert emitted.whole
    assert emitted.paths == ours(leaves(car))
    assert sample("backfiller_retries_attempted_total") == before[0] + 2
    assert sample("backfiller_car_parse_errors_total") == before[1] + 2


def block_boundary(car: bytes) -> int:
    """Where the last block of a CAR begins."""
    at = last = 0
    while at < len(car):
        last, size, shift = at, 0, 0
        while True:
            byte = car[at]
            size, shift, at = size | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80:
                break
        at += size
    return last


async def test_a_repo_signed_by_someone_else_is_given_up_after_its_tries(
    redis: Redis, redis_url: str, basic: Recording
) -> None:
    did, other = basic.repos[0].did, basic.repos[1].did
    stranger = [{**method, "controller": did} for method in basic.dids[other]["verificationMethod"]]
    before = sample("backfiller_verification_errors_total"), sample("backfiller_repos_dead_lettered_total")
    async with host() as pds:
        pds.serve(basic, did)
        pds.documents[did] |= {"verificationMethod": stranger}
        await enqueue(redis, [did])
        async with backfiller(environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="3")):
            await until(lambda: redis.xlen(DLQ))
        assert pds.requests[did] == 3
    [(_, letter)] = await redis.xrange(DLQ)
    assert letter[b"reason"] == b"max_retries_exceeded"
    assert letter[b"attempts"] == b"3"
    assert letter[b"error"] == b"bad_signature"
    job = json.loads(letter[b"repo"])
    assert [line.split()[1] for line in job.pop("history")] == ["bad_signature"] * 3
    assert job == {
        "did": did,
        "host": "https://relay.test",
        "rev": "",
        "status": None,
        "active": True,
        "attempts": 3,
    }
    assert await idle(redis)
    assert not await redis.xlen(OUTPUT)
    assert sample("backfiller_verification_errors_total") == before[0] + 3
    assert sample("backfiller_repos_dead_lettered_total") == before[1] + 1


async def test_a_failed_job_waits_outside_the_stream_with_its_tries_counted(
    redis: Redis, redis_url: str, basic: Recording
) -> None:
    did = basic.repos[0].did
    async with host() as pds:
        pds.serve(basic, did, 500)
        await enqueue(redis, [did])
        patient = environment(redis_url, pds.url, BACKFILLER_RETRY_INITIAL_BACKOFF_MS="30000000")
        async with backfiller({**patient, "BACKFILLER_RETRY_MAX_BACKOFF_MS": "30000000"}):
            await until(lambda: redis.zcard(PARKED))
            await until(no_pending(redis))
    assert await redis.xlen(INPUT) == 0
    [(job, due)] = await redis.zrange(PARKED, 0, -1, withscores=True)
    assert json.loads(job)["attempts"] == 1
    assert due > (await redis.time())[0] * 1000
    # an operator, or time itself, makes it due: it comes back, and succeeds
    await redis.zadd(PARKED, {job: 0})
    async with host() as pds:
        pds.serve(basic, did)
        await work_off(redis, environment(redis_url, pds.url))
    assert (await output(redis))[did].whole


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("RepoNotFound", "repo_not_found"),
        ("RepoTakendown", "repo_takendown"),
        ("RepoSuspended", "repo_suspended"),
        ("RepoDeactivated", "repo_deactivated"),
    ],
)
async def test_a_repo_that_is_not_to_be_had_is_finished_and_not_tried_again(
    error: str, outcome: str, redis: Redis, redis_url: str, basic: Recording
) -> None:
    did = basic.repos[0].did
    before = sample("backfiller_repo_outcomes_total", outcome=outcome), sample("backfiller_repos_processed_total")
    async with host() as pds:
        pds.serve(basic, did, refusal(error))
        await enqueue(redis, [did])
        await work_off(redis, environment(redis_url, pds.url))
        assert pds.requests[did] == 1
    assert await redis.xlen(OUTPUT) == await redis.xlen(DLQ) == 0
    assert sample("backfiller_repo_outcomes_total", outcome=outcome) == before[0] + 1
    assert sample("backfiller_repos_processed_total") == before[1]


@pytest.mark.parametrize(("minutes", "errors"), [(4, []), (6, [b"future_rev"])])
async def test_a_rev_from_the_future_is_refused(
    minutes: int, errors: list[bytes], redis: Redis, redis_url: str
) -> None:
    signer = Signer()
    rev = tid_at(int((time.time() + minutes * 60) * 1e6))
    async with host() as pds:
        pds.serve_made(DID, signer, signed_repo({"app.bsky.feed.post/3mfxgt2k7ir22": record("soon")}, signer, rev=rev))
        await enqueue(redis, [DID])
        await work_off(redis, environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="1"))
    assert [letter[b"error"] for _, letter in await redis.xrange(DLQ)] == errors
    assert bool(await redis.xlen(OUTPUT)) == (not errors)
