"""A backfiller in a test: its settings, what it fetches from, and what came out of it."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import libipld
from aiohttp import web
from redis.asyncio import Redis

from backfiller.app import assembled
from backfiller.settings import PREFIX, Settings
from common.did_documents import did_key
from common.events import RepoJob, encode_event
from common.settings import load
from sluice.recording import Recording
from tests.signed_repos import Signer
from tests.waiting import until

INPUT, OUTPUT, DLQ, GROUP = "repo_backfill", "firehose_backfill", "repo_backfill_dlq", "repo_backfill_group"
HIGH = "repo_backfill_high"
PARKED = f"{INPUT}:parked"

LEDGER = ("repos_processed", "repos_failed", "records_extracted", "records_unreadable")

OpenRecording = Callable[[str], Recording]
Answer = bytes | int | web.Response | Callable[[web.Request], Awaitable[web.StreamResponse]]


def environment(redis_url: str, plc_url: str, *origins: str, **changes: str) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "PLC_URL": plc_url,
        "OUTBOUND_ALLOW": ",".join(url.removeprefix("http://") for url in (plc_url, *origins)),
        "BACKFILLER_CONSUMER": "backfiller1",
        "BACKFILLER_RETRY_INITIAL_BACKOFF_MS": "1",
        "BACKFILLER_HOST_REQUESTS_PER_SECOND": "1000",
        "GRACE_SECONDS": "2",
        **changes,
    }


def of_an_operator(redis_url: str, *origins: str) -> dict[str, str]:
    """What a command is configured with beside a backfiller: the first of the origins is the directory."""
    settings = environment(redis_url, *(origins or ("http://127.0.0.1:9",)))
    return {name: value for name, value in settings.items() if name != "BACKFILLER_CONSUMER"}


@asynccontextmanager
async def backfiller(environ: Mapping[str, str]) -> AsyncIterator[None]:
    """All of a backfiller but its process, for the time of the context; it fails with the test."""
    stop = asyncio.Event()
    async with assembled(load(Settings, environ, PREFIX)) as services, asyncio.TaskGroup() as group:
        tasks = [group.create_task(service(stop)) for service in services]
        try:
            yield
        finally:
            stop.set()
            _, late = await asyncio.wait(tasks, timeout=0.2)
            for task in late:
                task.cancel()


async def enqueue(redis: Redis, dids: Iterable[str], stream: str = INPUT, **fields: Any) -> None:
    for did in dids:
        await redis.xadd(stream, {"repo": encode_event(RepoJob(did=did, host="https://relay.test", **fields))})


async def idle(redis: Redis) -> bool:
    """In one look: a job may be on its way from one to the other."""
    async with redis.pipeline(transaction=True) as pipe:
        for stream in (INPUT, HIGH):
            pipe.xlen(stream)
            pipe.zcard(f"{stream}:parked")
        return not any(await pipe.execute())


def no_entries(redis: Redis, stream: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return not await redis.xlen(stream)

    return look


def no_pending(redis: Redis) -> Callable[[], Awaitable[bool]]:
    async def none() -> bool:
        summary: Any = await redis.xpending(INPUT, GROUP)
        return summary["pending"] == 0

    return none


async def work_off(redis: Redis, environ: Mapping[str, str]) -> None:
    """A backfiller runs until no job waits, on its stream or beside it."""
    async with backfiller(environ):
        await until(lambda: idle(redis))


@dataclass
class Emitted:
    """What came out for one DID, each different event once."""

    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    closing: dict[str, Any] | None = None
    in_order: bool = True

    @property
    def whole(self) -> bool:
        """Every index up to the closing event's is there."""
        return self.closing is not None and set(self.records) == set(range(self.closing["snapshot"]["records"]))

    @property
    def paths(self) -> dict[str, str | None]:
        return {f"{event['collection']}/{event['rkey']}": event.get("cid") for event in self.records.values()}


async def output(redis: Redis) -> dict[str, Emitted]:
    found: dict[str, Emitted] = defaultdict(Emitted)
    for _, fields in await redis.xrange(OUTPUT):
        event = json.loads(fields[b"event"])
        assert event["seq"] == -1
        emitted = found[event["did"]]
        if event["type"] == "repo":
            assert event["snapshot"]["index"] == event["snapshot"]["records"]
            emitted.in_order &= emitted.whole or set(emitted.records) == set(range(event["snapshot"]["records"]))
            emitted.closing = event
        else:
            emitted.records[event["snapshot"]["index"]] = event
    return found


async def whole(redis: Redis) -> set[str]:
    """The DIDs of which all that their snapshot holds came out."""
    return {did for did, emitted in (await output(redis)).items() if emitted.whole}


def leaves(car: bytes) -> dict[str, str]:
    """{path: CID} of a repo, by a walk that shares no code with ours."""
    header, blocks = libipld.decode_car(car)

    def walk(cid: bytes) -> Iterable[tuple[str, str]]:
        node, key = blocks[cid], b""
        if node["l"]:
            yield from walk(node["l"])
        for entry in node["e"]:
            key = key[: entry["p"]] + entry["k"]
            yield key.decode(), libipld.encode_cid(entry["v"])
            if entry["t"]:
                yield from walk(entry["t"])

    return dict(walk(blocks[header["roots"][0]]["data"]))


def ours(paths: Mapping[str, str]) -> dict[str, str]:
    return {path: cid for path, cid in paths.items() if path.startswith(("app.bsky.", "chat.bsky."))}


@dataclass
class Host:
    """A PDS and a PLC directory whose answers a test writes. Each answer is given once, the last one for ever."""

    url: str = ""
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    repos: dict[str, list[Answer]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    last_asked: dict[str, float] = field(default_factory=dict)
    answers_lookups: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answers_lookups.set()

    async def get_repo(self, request: web.Request) -> web.StreamResponse:
        did = request.query["did"]
        self.requests[did] += 1
        self.last_asked[did] = asyncio.get_running_loop().time()
        answers = self.repos.get(did) or [refusal("RepoNotFound")]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            return await answer(request)
        if isinstance(answer, web.Response):
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        return web.Response(body=answer) if isinstance(answer, bytes) else web.Response(status=answer)

    async def get_document(self, request: web.Request) -> web.Response:
        self.requests["plc"] += 1
        await self.answers_lookups.wait()
        document = self.documents.get(request.match_info["did"])
        return web.json_response(document) if document else web.Response(status=404)

    def serve(self, recording: Recording, did: str, *answers: Answer) -> None:
        """This repo here, and in its document; the answers come before the true one."""
        car = recording.car(did)
        assert car is not None
        self.repos[did] = [*answers, car]
        self.document(recording, did, self.url)

    def document(self, recording: Recording, did: str, pds: str) -> None:
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds}
        self.documents[did] = {**recording.dids[did], "service": [service]}

    def serve_made(self, did: str, signer: Signer, *answers: Answer, pds: str = "") -> None:
        """The document of an account that was made here, with this key, and what its PDS (this one) answers."""
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds or self.url}
        key = did_key(signer.public).removeprefix("did:key:")
        method = {"id": "#atproto", "type": "Multikey", "controller": did, "publicKeyMultibase": key}
        self.documents[did] = {"id": did, "service": [service], "verificationMethod": [method]}
        self.repos[did] = list(answers)


def refusal(error: str, status: int = 400) -> web.Response:
    return web.json_response({"error": error, "message": "..."}, status=status)


async def silence(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


@asynccontextmanager
async def host() -> AsyncIterator[Host]:
    here = Host()
    app = web.Application()
    app.router.add_get("/xrpc/com.atproto.sync.getRepo", here.get_repo)
    app.router.add_get("/{did}", here.get_document)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    here.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield here
    await runner.cleanup()
