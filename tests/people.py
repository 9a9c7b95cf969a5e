"""Where people are looked up, whose answers a test writes, and what is stored of people."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from common.outbound import Outbound
from common.settings import load
from indexer.app import look_up_services
from indexer.settings import Settings
from tests.indexing import Index
from tests.serving import serving
from tests.waiting import until

Look = Callable[[], Awaitable[None]]


@dataclass
class Directory:
    """PLC directory, handle resolver and PDS behind one address, whose answers a test writes."""

    origin: str = ""
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    handles: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)  # path or DID -> status and XRPC error
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        return f"http://{self.origin}"

    @property
    def own_did(self) -> str:
        """Of somebody whose document this server itself has."""
        return "did:web:" + self.origin.replace(":", "%3A")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        routes = (
            web.get("/xrpc/com.atproto.identity.resolveHandle", self.resolve),
            web.get("/xrpc/com.atproto.sync.getLatestCommit", self.latest_commit),
            web.get("/.well-known/did.json", self.document),
            web.get("/{did}", self.document),
        )
        async with serving(*routes) as self.origin:
            yield

    def person(self, did: str, handle: str = "", *, pds: bool = True) -> None:
        """Somebody with a document that names this handle, and a repo at the PDS."""
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": self.url}
        names = [f"at://{handle}"] if handle else []
        self.documents[did] = {"id": did, "alsoKnownAs": names, "service": [service] if pds else []}
        if handle:
            self.handles[handle.lower()] = did

    async def document(self, request: web.Request) -> web.Response:
        did = request.match_info.get("did", self.own_did)
        return self._answer(request, did, self.documents.get(did), "")

    async def resolve(self, request: web.Request) -> web.Response:
        did = self.handles.get(request.query["handle"])
        return self._answer(request, "resolveHandle", {"did": did} if did else None, "HandleNotFound")

    async def latest_commit(self, request: web.Request) -> web.Response:
        self.asked[f"getLatestCommit of {request.query['did']}"] += 1
        return self._answer(request, "getLatestCommit", {"cid": "x", "rev": "y"}, "RepoNotFound")

    def _answer(self, request: web.Request, what: str, answer: Any, error: str) -> web.Response:
        self.asked[what] += 1
        status, error = self.refusals.get(what, (404 if not error else 400, error))
        if answer is None or what in self.refusals:
            return web.json_response({"error": error}, status=status)
        return web.json_response(answer)


async def look_once(index: Index, directory: Directory) -> None:
    """Whatever is due now is looked up by an indexer that has just been started."""
    environ = {
        "PLC_URL": directory.url,
        "INDEXER_HANDLE_RESOLVER": directory.url,
        "OUTBOUND_ALLOW": directory.origin,
    }
    settings, stop = load(Settings, environ, "INDEXER_"), asyncio.Event()
    async with Outbound(allow=settings.outbound_allow) as outbound, asyncio.TaskGroup() as tasks:
        for service in look_up_services(settings, index.database, outbound):
            tasks.create_task(service(stop))
        await until(lambda: nothing_is_due(index))
        stop.set()


async def nothing_is_due(index: Index) -> bool:
    """Whether all that waits has been tried once."""
    waiting = [*await checks(index), *await checks(index, "deletion_check")]
    return all(tries for _, _, tries in waiting)


async def people(index: Index) -> dict[str, tuple[str | None, str | None]]:
    """did -> (handle, status)"""
    rows = await index.rows("actor", "did", "handle", "upstreamStatus")
    return {did: (handle, status) for did, handle, status in rows}


async def checks(index: Index, table: str = "handle_check") -> list[tuple[str, str, int]]:
    rows = await index.pool.fetch(f"SELECT did, time, attempts FROM sluice_bsky.{table} ORDER BY did")
    return [tuple(row) for row in rows]
