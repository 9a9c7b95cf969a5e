"""Identities that mean harm (F-B5, F-B13): where they lead nobody is asked, while others go on."""

from typing import Any

import pytest
from redis.asyncio import Redis

from tests.backfilling import (
    DLQ,
    enqueue,
    environment,
    host,
    output,
    work_off,
)
from tests.hostility import GOOD, RECORDS, SIGNER, WHOLE, ended
from tests.samples import sample
from tests.signed_repos import DID, repo

PLACES = {
    "F-B5 an address": ("https://127.0.0.1", "forbidden_address"),
    "F-B5 an address as IPv6": ("https://[::ffff:127.0.0.1]", "forbidden_address"),
    "F-B5 an address as a number": ("https://2130706433", "forbidden_url"),
    "F-B5 a local name": ("https://localhost", "forbidden_url"),
    "F-B5 plain http": ("http://pds.example.com", "forbidden_url"),
    "F-B5 a port": ("https://pds.example.com:8443", "forbidden_url"),
    "F-B5 a port that is open here": ("", "forbidden_url"),
    "F-B5 a path": ("https://pds.example.com/path", "no_pds"),
    "F-B5 a file": ("file:///etc/passwd", "no_pds"),
}


@pytest.mark.parametrize("name", PLACES)
async def test_a_pds_where_nobody_may_ask_is_not_asked(name: str, redis: Redis, redis_url: str) -> None:
    place, error = PLACES[name]
    async with host() as inside, host() as pds:
        inside.repos[DID] = [WHOLE]
        pds.serve_made(DID, SIGNER, pds=place or inside.url)
        for did in GOOD:
            pds.serve_made(did, SIGNER, repo(RECORDS, SIGNER, did=did))
        await ended(pds, redis, environment(redis_url, pds.url))
        assert not inside.requests
    [(_, letter)] = await redis.xrange(DLQ)
    assert letter[b"error"].decode() == error


DOCUMENTS: dict[str, tuple[str, Any, str]] = {
    "F-B13 the document of somebody else": (DID, {"id": GOOD[0]}, "bad_did_document"),
    "F-B13 no document": (DID, ["a list"], "bad_did_document"),
    "F-B13 a document of megabytes": (DID, {"id": DID, "also": "a" * (2 << 20)}, "too_large"),
    "F-B13 a local did:web": ("did:web:localhost", {}, "forbidden_url"),
    "F-B13 a did:web with a port": ("did:web:localhost%3A6379", {}, "forbidden_url"),
    "F-B13 a did:web with a path": ("did:web:example.com:user", {}, "did_unsupported"),
    "F-B13 a did:web that is an address": ("did:web:127.0.0.1", {}, "forbidden_address"),
    "F-B13 a method nobody has": ("did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", {}, "did_unsupported"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_an_identity_that_leads_nowhere_is_refused(name: str, redis: Redis, redis_url: str) -> None:
    did, document, reason = DOCUMENTS[name]
    before = sample("backfiller_repo_outcomes_total", outcome=reason)
    async with host() as pds:
        pds.documents[did] = document
        pds.serve_made(GOOD[0], SIGNER, repo(RECORDS, SIGNER, did=GOOD[0]))
        await enqueue(redis, [did, GOOD[0]])
        await work_off(redis, environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="1"))
    letters = [letter[b"error"].decode() for _, letter in await redis.xrange(DLQ)]
    finished = sample("backfiller_repo_outcomes_total", outcome=reason) - before
    assert (letters, finished) in (([reason], 0), ([], 1))
    assert (await output(redis)).keys() == {GOOD[0]}
