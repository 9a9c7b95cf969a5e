"""What hosts that mean harm answer, each with its number in the list of faults, and whom it must not harm."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from redis.asyncio import Redis

from common.dag_cbor import cid_of
from tests.backfilling import (
    Answer,
    Host,
    backfiller,
    enqueue,
    idle,
    output,
    silence,
)
from tests.samples import sample
from tests.signed_repos import DID, Signer, car, commit, node, record, repo, tree, varint
from tests.waiting import until

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


def nothing_is_in_hand() -> bool:
    held = [sample("backfiller_bytes_in_hand", where=where) for where in ("memory", "disk")]
    return not any([sample("backfiller_repos_running"), *held])


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
