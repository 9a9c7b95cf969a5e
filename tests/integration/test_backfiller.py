"""From an entry to the events of a snapshot, through a real Redis and a network on loopback, recorded or hostile."""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from common.did_documents import did_key
from common.keys import key_in_document
from common.syntax import tid_at
from sluice.recording import Recording
from sluice.server import free_port
from tests.backfilling import (
    DLQ,
    GROUP,
    INPUT,
    LEDGER,
    OUTPUT,
    PARKED,
    StartNetwork,
    backfiller,
    enqueue,
    environment,
    host,
    idle,
    leaves,
    metric,
    ours,
    output,
    refusal,
)
from tests.signed_repos import DID, Signer, record
from tests.signed_repos import repo as signed_repo
from tests.waiting import until

# the ordinary case


@pytest.mark.parametrize("name", ["full", "load-tiny"])
async def test_every_record_of_every_repo_comes_out_once(
    name: str, network: StartNetwork, redis: Redis, redis_url: str
) -> None:
    served = await network(name)
    repos = served.recording.repos
    before = {counter: metric(f"backfiller_{counter}_total") for counter in LEDGER}
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
    moved = {counter: metric(f"backfiller_{counter}_total") - before[counter] for counter in LEDGER}
    assert moved["repos_processed"] == len(cars)
    assert moved["repos_failed"] == 0
    assert moved["records_extracted"] + moved["records_unreadable"] == sum(len(ours(paths)) for paths in cars.values())
    assert moved["records_filtered"] == sum(len(paths) - len(ours(paths)) for paths in cars.values())


async def test_keys_and_hosts_are_shared_with_others_for_a_day(
    network: StartNetwork, redis: Redis, redis_url: str, basic: Recording
) -> None:
    served = await network("basic")
    dids = [repo.did for repo in basic.repos]
    await enqueue(redis, dids)
    async with backfiller(environment(redis_url, served.url)):
        await until(lambda: idle(redis))
    for did in dids:
        assert await redis.get(f"did:pds:{did}") == served.url.encode()
        assert (await redis.get(f"did:key:{did}")).startswith(b"did:key:z")
        assert 86_000 < await redis.ttl(f"did:key:{did}") <= 86_400
        assert 86_000 < await redis.ttl(f"did:pds:{did}") <= 86_400
    served.requests.clear()
    await redis.delete(OUTPUT)
    await enqueue(redis, dids)
    async with backfiller(environment(redis_url, served.url)):
        await until(lambda: idle(redis))
    assert not any("did:" in path for path in served.requests)
    assert {did for did, emitted in (await output(redis)).items() if emitted.whole} == set(dids)


# repos that are not as they should be


async def test_a_car_that_breaks_off_is_fetched_again(redis: Redis, redis_url: str, basic: Recording) -> None:
    did = basic.repos[0].did
    car = basic.car(did)
    assert car is not None
    before = metric("backfiller_retries_attempted_total"), metric("backfiller_car_parse_errors_total")
    async with host() as pds:
        pds.serve(basic, did, car[: len(car) // 2], car[: block_boundary(car)])
        await enqueue(redis, [did])
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: idle(redis))
        assert pds.requests[did] == 3
    emitted = (await output(redis))[did]
    assert emitted.whole
    assert emitted.paths == ours(leaves(car))
    assert metric("backfiller_retries_attempted_total") == before[0] + 2
    assert metric("backfiller_car_parse_errors_total") == before[1] + 2


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
    before = metric("backfiller_verification_errors_total"), metric("backfiller_repos_dead_lettered_total")
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
    assert metric("backfiller_verification_errors_total") == before[0] + 3
    assert metric("backfiller_repos_dead_lettered_total") == before[1] + 1


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
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: idle(redis))
    assert (await output(redis))[did].whole


def no_pending(redis: Redis) -> Callable[[], Awaitable[bool]]:
    async def none() -> bool:
        summary: Any = await redis.xpending(INPUT, GROUP)
        return summary["pending"] == 0

    return none


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
    before = metric("backfiller_repo_outcomes_total", outcome=outcome), metric("backfiller_repos_processed_total")
    async with host() as pds:
        pds.serve(basic, did, refusal(error))
        await enqueue(redis, [did])
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: idle(redis))
        assert pds.requests[did] == 1
    assert await redis.xlen(OUTPUT) == await redis.xlen(DLQ) == 0
    assert metric("backfiller_repo_outcomes_total", outcome=outcome) == before[0] + 1
    assert metric("backfiller_repos_processed_total") == before[1]


async def test_a_did_that_nobody_knows_is_finished(redis: Redis, redis_url: str) -> None:
    before = metric("backfiller_repo_outcomes_total", outcome="did_not_found")
    async with host() as pds:
        await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: idle(redis))
    assert await redis.xlen(DLQ) == 0
    assert metric("backfiller_repo_outcomes_total", outcome="did_not_found") == before + 1


async def test_an_account_that_has_moved_is_found_where_it_is_now(
    redis: Redis, redis_url: str, basic: Recording
) -> None:
    """The identity that we remember names the old host, which says that the account is not active there."""
    did = basic.repos[0].did
    async with host() as old, host() as new:
        old.serve(basic, did, refusal("RepoDeactivated"))
        new.serve(basic, did)
        await enqueue(redis, [did])
        await redis.set(f"did:pds:{did}", old.url)
        await redis.set(f"did:key:{did}", "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169")
        async with backfiller(environment(redis_url, new.url, old.url)):
            await until(lambda: idle(redis))
        assert (old.requests[did], new.requests[did]) == (1, 1)
        assert await redis.get(f"did:pds:{did}") == new.url.encode()
    assert (await output(redis))[did].whole


async def test_after_a_failure_the_host_is_looked_up_anew(redis: Redis, redis_url: str, basic: Recording) -> None:
    """The host that we remember is gone, with all that it could have told us."""
    did, gone = basic.repos[0].did, f"http://127.0.0.1:{free_port()}"
    async with host() as pds:
        pds.serve(basic, did)
        await redis.set(f"did:pds:{did}", gone)
        await redis.set(f"did:key:{did}", did_key(key_in_document(basic.dids[did], did)))
        await enqueue(redis, [did])
        async with backfiller(environment(redis_url, pds.url, gone)):
            await until(lambda: idle(redis))
    assert (await output(redis))[did].whole


async def test_a_new_key_is_looked_up_before_a_repo_is_called_forged(
    redis: Redis, redis_url: str, basic: Recording
) -> None:
    did = basic.repos[0].did
    before = metric("backfiller_repos_failed_total")
    async with host() as pds:
        pds.serve(basic, did)
        await enqueue(redis, [did])
        await redis.set(f"did:pds:{did}", pds.url)
        await redis.set(f"did:key:{did}", "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169")
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: idle(redis))
    assert (await output(redis))[did].whole
    assert metric("backfiller_repos_failed_total") == before


async def test_a_document_without_a_key_is_an_identity_problem(redis: Redis, redis_url: str, basic: Recording) -> None:
    did = basic.repos[0].did
    async with host() as pds:
        pds.serve(basic, did)
        pds.documents[did] |= {"verificationMethod": []}
        await enqueue(redis, [did])
        async with backfiller(environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="1")):
            await until(lambda: idle(redis))
        [(_, letter)] = await redis.xrange(DLQ)
        assert letter[b"error"] == b"no_key"
        assert pds.requests[did] == 0
        trusting = environment(redis_url, pds.url, BACKFILLER_SKIP_SIGNATURE_VERIFICATION="true")
        await enqueue(redis, [did])
        async with backfiller(trusting):
            await until(lambda: idle(redis))
    assert (await output(redis))[did].whole


async def test_a_document_without_a_pds_is_an_identity_problem(redis: Redis, redis_url: str, basic: Recording) -> None:
    did = basic.repos[0].did
    async with host() as pds:
        pds.serve(basic, did)
        pds.documents[did] |= {"service": []}
        await enqueue(redis, [did])
        async with backfiller(environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="1")):
            await until(lambda: idle(redis))
    [(_, letter)] = await redis.xrange(DLQ)
    assert letter[b"error"] == b"no_pds"


@pytest.mark.parametrize(("minutes", "errors"), [(4, []), (6, [b"future_rev"])])
async def test_a_rev_from_the_future_is_refused(
    minutes: int, errors: list[bytes], redis: Redis, redis_url: str
) -> None:
    signer = Signer()
    rev = tid_at(int((time.time() + minutes * 60) * 1e6))
    async with host() as pds:
        pds.serve_made(DID, signer, signed_repo({"app.bsky.feed.post/3mfxgt2k7ir22": record("soon")}, signer, rev=rev))
        await enqueue(redis, [DID])
        async with backfiller(environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="1")):
            await until(lambda: idle(redis))
    assert [letter[b"error"] for _, letter in await redis.xrange(DLQ)] == errors
    assert bool(await redis.xlen(OUTPUT)) == (not errors)


@pytest.mark.parametrize(
    "fields",
    [
        {"repo": "{"},
        {"repo": "[]"},
        {"repo": '{"did":1}'},
        {"repo": '{"host":"https://relay.test"}'},
        {"repo": '{"did":"nonsense"}'},
        {"repo": b"\xff"},
        {"event": "{}"},
        {"repo": "[" * 100_000},
    ],
)
async def test_an_entry_that_is_no_job_goes_to_the_dead_letters_as_it_came(
    fields: dict[Any, Any], redis: Redis, redis_url: str, basic: Recording
) -> None:
    did = basic.repos[0].did
    async with host() as pds:
        pds.serve(basic, did)
        await redis.xadd(INPUT, fields)
        await enqueue(redis, [did])
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: idle(redis))
    [(_, letter)] = await redis.xrange(DLQ)
    assert (letter[b"reason"], letter[b"attempts"]) == (b"bad_entry", b"0")
    for name, text in fields.items():
        assert letter[name.encode()] == (text if isinstance(text, bytes) else text.encode())
    assert b"repo" in letter
    assert (await output(redis))[did].whole


async def test_an_entry_that_was_deleted_under_way_is_counted_as_lost_and_let_go(redis: Redis, redis_url: str) -> None:
    before = metric("backfiller_repo_outcomes_total", outcome="lost_entry")
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
    await redis.xgroup_create(INPUT, GROUP, id="0")
    await redis.xreadgroup(GROUP, "backfiller1", {INPUT: ">"})
    await redis.xtrim(INPUT, maxlen=0)
    async with host() as pds, backfiller(environment(redis_url, pds.url)):
        await until(no_pending(redis))
    assert metric("backfiller_repo_outcomes_total", outcome="lost_entry") == before + 1
