"""Hosts that mean harm, each with its number in the list of faults: refused with a reason, while others go on.

F-B14 (handles that others claim) is in test_handles.py, F-B15 (a repo that changes meanwhile) in
test_changing_repos.py, F-B12 (a dead host) in test_backfiller_permits.py, F-B16 (a full output) in
test_backfiller_pressure.py; every form of a damaged CAR, tree and address is in the unit tests of car, repo, unpack and
public addresses.
"""

import asyncio
import gzip
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from bench.machine import peak_rss_mb
from common.dag_cbor import cid_of
from sluice.server import free_port
from tests.backfilling import (
    DLQ,
    OUTPUT,
    PARKED,
    Answer,
    Host,
    backfiller,
    enqueue,
    environment,
    host,
    idle,
    metric,
    output,
    refusal,
    silence,
)
from tests.signed_repos import DID, Signer, car, commit, node, record, repo, tree, varint
from tests.waiting import until

ROOT = Path(__file__).parents[2]
SIGNER = Signer()
Then = Callable[[web.StreamResponse], Awaitable[None]]
RECORDS = {f"app.bsky.feed.post/3mfxgt2k7ir2{letter}": record(letter) for letter in "abcdef"}
GOOD = [f"did:plc:goodgoodgoodgoodgoodgo{letter}{letter}" for letter in "abc"]
WHOLE = repo(RECORDS, SIGNER)


def streamed(*parts: bytes, then: Then | None = None, **headers: str) -> Answer:
    """A body in these parts, and what becomes of it then; without more, the host hangs up."""

    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        response = web.StreamResponse(headers=named)
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        if then is not None:
            await then(response)
        if request.transport is not None:
            request.transport.close()
        return response

    return answer


async def say_no_more(_: web.StreamResponse) -> None:
    await asyncio.Event().wait()


async def dribble(response: web.StreamResponse) -> None:
    while True:
        await response.write(b"a")
        await asyncio.sleep(0.05)


async def pour_zeros(response: web.StreamResponse) -> None:
    while True:
        await response.write(bytes(1 << 20))


def redirect(to: str) -> Answer:
    return web.Response(status=302, headers={"Location": to})


def block_by_block(root: bytes, *blocks: bytes | tuple[bytes, bytes]) -> bytes:
    return car(cid_of(root), [root, *blocks])


def with_tree(*nodes: bytes) -> bytes:
    """A repo whose tree is just these nodes, the first of them on top."""
    return block_by_block(commit(cid_of(nodes[0]), SIGNER), *nodes, *RECORDS.values())


def deep(levels: int) -> bytes:
    """DAG-CBOR: lists in lists."""
    return b"\x81" * levels + b"\x80"


FIRST, SECOND = sorted(RECORDS)[:2]
SIGNED = commit(tree({path: cid_of(block) for path, block in RECORDS.items()})[0], SIGNER)
UNSORTED = node(None, [(0, SECOND.encode(), None, cid_of(RECORDS[SECOND])), (0, FIRST.encode(), None, cid_of(b""))])
MINED = node(None, [(0, b"app.bsky.feed.post/" + b"a" * 1100, None, cid_of(RECORDS[FIRST]))])
CHAIN = [node(None, [])]
for _ in range(300):
    CHAIN.insert(0, node(cid_of(CHAIN[0]), []))
IDENTITY_CID = bytes((1, 0x55, 0, 4)) + b"text"

QUICK = {"BACKFILLER_HTTP_TIMEOUT_SECS": "2"}
SMALL = {"BACKFILLER_MAX_CAR_BYTES": "1000000"}


@dataclass(frozen=True)
class Case:
    """What the host of DID answers, and the reason with which its repo ends. `asked`: how often it was, at most."""

    name: str
    answer: Answer
    error: str
    settings: dict[str, str] = field(default_factory=dict)
    asked: int = 1


CASES = [
    Case("F-B1 silent before its headers", silence, "timeout", QUICK),
    Case("F-B1 silent after its headers", streamed(then=say_no_more), "timeout", QUICK),
    Case("F-B1 silent in the middle", streamed(WHOLE[:500], then=say_no_more), "timeout", QUICK),
    Case("F-B1 a slow loris", streamed(WHOLE[:500], then=dribble), "too_slow", QUICK),
    Case("F-B2 announces 10 GB", streamed(then=say_no_more, Content_Length="10000000000"), "too_large"),
    Case("F-B2 zeros without end", streamed(then=pour_zeros), "too_large", SMALL),
    Case(
        "F-B2 less than announced",
        streamed(WHOLE, Content_Length=str(len(WHOLE) + 9)),
        "truncated_body",
    ),
    Case("F-B3 a bomb", streamed(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"), "encoded_body"),
    Case("F-B3 an encoding nobody asked for", streamed(WHOLE, Content_Encoding="zstd"), "encoded_body"),
    Case("F-B4 to an address inside", redirect("http://169.254.169.254/latest/meta-data"), "forbidden_url"),
    Case("F-B4 to ourselves", redirect("https://127.0.0.1/"), "forbidden_address"),
    Case("F-B4 to ourselves by IPv6", redirect("https://[::1]/"), "forbidden_address"),
    Case("F-B4 to a file", redirect("file:///etc/passwd"), "forbidden_url"),
    Case("F-B4 to gopher", redirect("gopher://127.0.0.1:6379/_FLUSHALL"), "forbidden_url"),
    Case("F-B4 in a circle", redirect("/xrpc/com.atproto.sync.getRepo?did=" + DID), "too_many_redirects", asked=4),
    Case("F-B6 no CAR", b"<html>" * 100, "bad_car"),
    Case("F-B6 nothing", b"", "truncated_car"),
    Case("F-B6 a length beyond all numbers", b"\xff" * 99, "bad_car"),
    Case("F-B6 cut inside a block", WHOLE[:-9], "truncated_car"),
    Case("F-B6 cut between two blocks", block_by_block(SIGNED), "incomplete_repo"),
    Case("F-B6 a root that is not there", car(cid_of(b"elsewhere"), [SIGNED]), "incomplete_repo"),
    Case("F-B6 a root that is a record", block_by_block(RECORDS[FIRST]), "bad_commit"),
    Case("F-B6 another block under a CID", block_by_block(SIGNED, (cid_of(b"this"), b"that")), "bad_block_hash"),
    Case("F-B6 a CID that holds its block", block_by_block(SIGNED, (IDENTITY_CID, b"text")), "bad_car"),
    Case("F-B7 a commit of 1,000,000 lists", block_by_block(deep(1_000_000)), "bad_commit"),
    Case("F-B7 a commit that claims 2^63 items", block_by_block(b"\x9b\x7f" + b"\xff" * 7), "bad_commit"),
    Case("F-B7 a node that claims 2^32 entries", with_tree(b"\xa2ae\x9a\xff\xff\xff\xff"), "bad_mst"),
    Case("F-B7 a header that claims 2^62 bytes", varint(1 << 62) + b"\xa2", "bad_car"),
    Case("F-B8 keys out of order", with_tree(UNSORTED), "bad_mst"),
    Case("F-B8 a key longer than any", with_tree(MINED), "bad_mst"),
    Case("F-B8 nodes without keys, 300 deep", with_tree(*CHAIN), "bad_mst"),
    Case("F-B9 the key of somebody else", repo(RECORDS, Signer(number=8)), "bad_signature"),
    Case("F-B9 the repo of somebody else", repo(RECORDS, SIGNER, did=GOOD[0]), "wrong_did"),
    Case("F-B11 an answer of its own making", web.Response(status=418), "refused"),
    Case("F-B11 broken for ever", web.Response(status=500), "server_error"),
]


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


def nothing_is_in_hand() -> bool:
    held = [metric("backfiller_bytes_in_hand", where=where) for where in ("memory", "disk")]
    return not any([metric("backfiller_repos_running"), *held])


async def ended(pds: Host, redis: Redis, environ: dict[str, str]) -> None:
    few = {"BACKFILLER_CONCURRENCY": "2", "BACKFILLER_HOST_CONCURRENCY": "1", "BACKFILLER_MAX_RETRIES": "1"}
    await enqueue(redis, [DID, *GOOD])
    async with backfiller({**environ, **few}):
        await until(lambda: idle(redis))
        await enqueue(redis, GOOD)
        await until(lambda: idle(redis))
        await until(nothing_is_in_hand)
    assert [pds.requests[did] for did in GOOD] == [2] * len(GOOD)
    found = await output(redis)
    assert found.keys() == set(GOOD)
    assert all(emitted.whole for emitted in found.values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_hostile_answer_is_refused_and_costs_nobody_else(case: Case, redis: Redis, redis_url: str) -> None:
    before = metric("backfiller_failures_by_reason_total", reason=case.error)
    asked = await settled(case.answer, redis, redis_url, **case.settings)
    assert asked == case.asked
    [(_, letter)] = await redis.xrange(DLQ)
    assert letter[b"error"].decode() == case.error
    assert metric("backfiller_failures_by_reason_total", reason=case.error) == before + 1


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


async def test_f_b7_a_bomb_of_a_record_is_a_record_that_cannot_be_read(redis: Redis, redis_url: str) -> None:
    """It costs no other record of its repo, and nobody else."""
    bombs = [deep(1_000_000), b"\x9b\x7f" + b"\xff" * 7, b"\xbb" + b"\xff" * 8]
    records = RECORDS | {f"app.bsky.feed.like/3mfxgt2k7ir2{n}": bomb for n, bomb in zip("abc", bombs, strict=True)}
    before = metric("backfiller_records_unreadable_total")
    async with host() as pds:
        pds.serve_made(DID, SIGNER, repo(records, SIGNER))
        await enqueue(redis, [DID])
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: idle(redis))
    emitted = (await output(redis))[DID]
    assert emitted.whole
    assert {path for path, cid in emitted.paths.items() if cid is not None} == set(RECORDS)
    assert metric("backfiller_records_unreadable_total") == before + len(bombs)


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
    before = metric("backfiller_repo_outcomes_total", outcome=reason)
    async with host() as pds:
        pds.documents[did] = document
        pds.serve_made(GOOD[0], SIGNER, repo(RECORDS, SIGNER, did=GOOD[0]))
        await enqueue(redis, [did, GOOD[0]])
        async with backfiller(environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="1")):
            await until(lambda: idle(redis))
    letters = [letter[b"error"].decode() for _, letter in await redis.xrange(DLQ)]
    finished = metric("backfiller_repo_outcomes_total", outcome=reason) - before
    assert (letters, finished) in (([reason], 0), ([], 1))
    assert (await output(redis)).keys() == {GOOD[0]}


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
