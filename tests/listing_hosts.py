"""A relay that lists repos as a test says, and a listing of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from redis.asyncio import Redis

from common.backpressure import Room
from common.events import RepoJob
from common.outbound import Outbound
from common.streams import REPO_BACKFILL, StreamWriter
from ingester.accounts import LISTING, Account
from ingester.cursors import LISTING_DONE, cursor_key
from ingester.gaps import GapLedger
from ingester.pages import RepoPages
from ingester.relay_listing import RelayListing
from ingester.repo_listing import Listed, RepoListing
from ingester.upstream import Upstream
from tests.waiting import until

DIDS = [f"did:plc:{letter * 24}" for letter in "abcdefgh"]


class Relay:
    """Answers listRepos with what `answer(cursor, limit)` says."""

    def __init__(self) -> None:
        self.answer: Callable[[str, int], Any] = rows(DIDS)
        self.asked: list[tuple[str, int]] = []
        self.paths: list[tuple[str, str | None]] = []
        self.before_answering: Callable[[str], Awaitable[None]] = nothing
        self.upstream = Upstream("", False, 0)

    async def serve(self, request: web.Request) -> web.Response:
        cursor, limit = request.query.get("cursor", ""), int(request.query["limit"])
        self.asked.append((cursor, limit))
        self.paths.append((request.path.rpartition(".")[2], request.query.get("collection")))
        await self.before_answering(cursor)
        answer = self.answer(cursor, limit)
        return answer if isinstance(answer, web.Response) else web.json_response(answer)


async def nothing(cursor: str) -> None:
    """The relay answers at once."""


def rows(dids: list[str], broken: int = -1) -> Callable[[str, int], Any]:
    """Pages whose cursors are numbers; each page that holds the row `broken` fails, as relays do."""

    def answer(cursor: str, limit: int) -> Any:
        start = int(cursor or 0)
        end = min(start + limit, len(dids))
        if start <= broken < end:
            return web.Response(status=500)
        page = {"repos": [{"did": did, "head": "bafy", "rev": "3k"} for did in dids[start:end]]}
        return page | ({"cursor": str(end)} if end < len(dids) else {})

    return answer


async def none(jobs: Sequence[RepoJob]) -> list[bool]:
    """Nothing is current."""
    return [False] * len(jobs)


@asynccontextmanager
async def one_listing(
    redis: Redis, upstream: Upstream, room: Room | None = None, collection: str = "", **listed: Any
) -> AsyncIterator[RepoListing]:
    room = room or Room(redis, REPO_BACKFILL, 100_000)
    async with Outbound(allow=[upstream.origin]) as outbound:
        yield RepoListing(
            redis,
            RepoPages(outbound, upstream.http_url, collection),
            Listed(
                **{"host": upstream.host, "key": cursor_key(REPO_BACKFILL, upstream.host), "are_current": none} | listed
            ),
            writer=StreamWriter(redis, REPO_BACKFILL, "repo", room),
            room=room,
            account=Account(LISTING),
            ledger=GapLedger(redis),
        )


@asynccontextmanager
async def listing(
    redis: Redis, upstream: Upstream, room: Room | None = None, *, repeat_seconds: float = 0, **listed: Any
) -> AsyncIterator[None]:
    """Listed by a service while it lasts."""
    stop, key = asyncio.Event(), cursor_key(REPO_BACKFILL, upstream.host)
    async with one_listing(redis, upstream, room, **listed) as pages, asyncio.TaskGroup() as tasks:
        service = RelayListing(redis, pages, key=key, repeat_seconds=repeat_seconds)
        tasks.create_task(service.run(stop))
        yield
        stop.set()


async def until_done(redis: Redis, upstream: Upstream) -> None:
    async def is_done() -> bool:
        return await redis.get(cursor_key(REPO_BACKFILL, upstream.host)) == LISTING_DONE.encode()

    await until(is_done)


async def jobs(redis: Redis) -> list[dict[str, Any]]:
    entries: Any = await redis.xrange(REPO_BACKFILL)
    return [json.loads(fields[b"repo"]) for _, fields in entries]


async def dids(redis: Redis) -> list[str]:
    return [job["did"] for job in await jobs(redis)]


@asynccontextmanager
async def listing_relay() -> AsyncIterator[Relay]:
    relay = Relay()
    app = web.Application()
    app.router.add_get("/xrpc/com.atproto.sync.listRepos", relay.serve)
    app.router.add_get("/xrpc/com.atproto.sync.listReposByCollection", relay.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    relay.upstream = Upstream(f"127.0.0.1:{port}", False, port)
    yield relay
    await runner.cleanup()
