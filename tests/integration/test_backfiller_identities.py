"""Where a repo is and whose key signs it: remembered, shared with others, and looked up anew when in doubt."""

import pytest
from redis.asyncio import Redis

from common.did_documents import did_key
from common.keys import key_in_document
from sluice.recording import Recording
from sluice.server import free_port
from tests.backfilling import (
    DLQ,
    OUTPUT,
    enqueue,
    environment,
    host,
    output,
    refusal,
    whole,
    work_off,
)
from tests.recorded_network import StartNetwork
from tests.samples import sample


async def test_keys_and_hosts_are_shared_with_others_for_a_day(
    network: StartNetwork, redis: Redis, redis_url: str, basic: Recording
) -> None:
    served = await network("basic")
    dids = [repo.did for repo in basic.repos]
    await enqueue(redis, dids)
    await work_off(redis, environment(redis_url, served.url))
    for did in dids:
        assert await redis.get(f"did:pds:{did}") == served.url.encode()
        assert (await redis.get(f"did:key:{did}")).startswith(b"did:key:z")
        assert 86_000 < await redis.ttl(f"did:key:{did}") <= 86_400
        assert 86_000 < await redis.ttl(f"did:pds:{did}") <= 86_400
    served.requests.clear()
    await redis.delete(OUTPUT)
    await enqueue(redis, dids)
    await work_off(redis, environment(redis_url, served.url))
    assert not any("did:" in path for path in served.requests)
    assert await whole(redis) == set(dids)


async def test_a_did_that_nobody_knows_is_finished(redis: Redis, redis_url: str) -> None:
    before = sample("backfiller_repo_outcomes_total", outcome="did_not_found")
    async with host() as pds:
        await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
        await work_off(redis, environment(redis_url, pds.url))
    assert await redis.xlen(DLQ) == 0
    assert sample("backfiller_repo_outcomes_total", outcome="did_not_found") == before + 1


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
        await work_off(redis, environment(redis_url, new.url, old.url))
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
        await work_off(redis, environment(redis_url, pds.url, gone))
    assert (await output(redis))[did].whole


async def test_a_new_key_is_looked_up_before_a_repo_is_called_forged(
    redis: Redis, redis_url: str, basic: Recording
) -> None:
    did = basic.repos[0].did
    before = sample("backfiller_repos_failed_total")
    async with host() as pds:
        pds.serve(basic, did)
        await enqueue(redis, [did])
        await redis.set(f"did:pds:{did}", pds.url)
        await redis.set(f"did:key:{did}", "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169")
        await work_off(redis, environment(redis_url, pds.url))
    assert (await output(redis))[did].whole
    assert sample("backfiller_repos_failed_total") == before


@pytest.mark.parametrize(("missing", "error"), [("verificationMethod", b"no_key"), ("service", b"no_pds")])
async def test_a_document_without_a_key_or_a_pds_is_an_identity_problem(
    missing: str, error: bytes, redis: Redis, redis_url: str, basic: Recording
) -> None:
    did = basic.repos[0].did
    async with host() as pds:
        pds.serve(basic, did)
        pds.documents[did] |= {missing: []}
        await enqueue(redis, [did])
        await work_off(redis, environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="1"))
        assert pds.requests[did] == 0
    [(_, letter)] = await redis.xrange(DLQ)
    assert letter[b"error"] == error


async def test_who_verifies_no_signatures_needs_no_key(redis: Redis, redis_url: str, basic: Recording) -> None:
    did = basic.repos[0].did
    async with host() as pds:
        pds.serve(basic, did)
        pds.documents[did] |= {"verificationMethod": []}
        await enqueue(redis, [did])
        await work_off(redis, environment(redis_url, pds.url, BACKFILLER_SKIP_SIGNATURE_VERIFICATION="true"))
    assert await whole(redis) == {did}
