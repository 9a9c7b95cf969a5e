"""The admin endpoint: what the sources do, and pausing them or changing the filter while the ingester runs."""

import hmac
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from redis.exceptions import RedisError

from common.collection_filter import CollectionFilter
from common.errors import BadInput, CannotStart
from ingester.controls import Controls
from ingester.switches import Switch

MAX_BODY_BYTES = 64 << 10


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@asynccontextmanager
async def serve_admin(controls: Controls, host: str, port: int, token: str) -> AsyncIterator[None]:
    """Answers on `port` (0: none). Raises CannotStart: off loopback there must be a token; the port may be taken."""
    if not port:
        yield
        return
    if not token and not is_loopback(host):
        raise CannotStart(f"INGESTER_ADMIN_HOST={host} is reached by others: set INGESTER_ADMIN_TOKEN_FILE as well")
    runner = web.AppRunner(admin_app(controls, token), access_log=None, shutdown_timeout=1.0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise CannotStart(f"admin port {port}: {error.strerror}; free it or set INGESTER_ADMIN_PORT") from error
        yield


def admin_app(controls: Controls, token: str) -> web.Application:
    pages = _Pages(controls)
    app = web.Application(middlewares=[_guard(token)], client_max_size=MAX_BODY_BYTES)
    app.router.add_get("/sources", pages.sources)
    app.router.add_post("/sources/pause", pages.pause)
    app.router.add_post("/sources/resume", pages.resume)
    app.router.add_get("/filter", pages.filter)
    app.router.add_put("/filter", pages.choose)
    app.router.add_delete("/filter", pages.reset)
    return app


def _guard(token: str) -> Middleware:
    """With a token only who knows it; without one no web page, which a browser here would ask for on others' behalf."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), f"Bearer {token}".encode()):
                return _error(401, "the token is missing or wrong: send the one in INGESTER_ADMIN_TOKEN_FILE")
        elif "Origin" in request.headers or not is_loopback(request.url.host or ""):
            return _error(403, "only for programs on this machine")
        try:
            return await handler(request)
        except (RedisError, OSError) as error:
            return _error(503, f"redis does not answer: {error}")

    return guarded


class _Pages:
    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    async def sources(self, _: web.Request) -> web.Response:
        cursors = await self._controls.cursors()
        switches = self._controls.switches
        rows = [_row(switch, cursor) for switch, cursor in zip(switches, cursors, strict=True)]
        return _json({"sources": rows})

    async def pause(self, request: web.Request) -> web.Response:
        return await self._turn(request, paused=True)

    async def resume(self, request: web.Request) -> web.Response:
        return await self._turn(request, paused=False)

    async def _turn(self, request: web.Request, *, paused: bool) -> web.Response:
        name = (await _body(request)).get("name")
        if not isinstance(name, str) or not await self._controls.pause(name, paused=paused):
            known = ", ".join(switch.source.name for switch in self._controls.switches)
            return _error(404, f"no such source; there are: {known or 'none'}")
        return _json({"name": name, "paused": paused})

    async def filter(self, _: web.Request) -> web.Response:
        filter = self._controls.filter
        return _json(
            {
                "collections": filter.current.patterns,
                "setting": filter.setting.patterns,
                "chosen": filter.chosen is not None,
            }
        )

    async def choose(self, request: web.Request) -> web.Response:
        collections = (await _body(request)).get("collections")
        if not isinstance(collections, list) or not collections or not all(isinstance(it, str) for it in collections):
            return _error(400, "collections must be a list of NSIDs, of prefixes that end in .*, or *")
        try:
            chosen = CollectionFilter(tuple(collections))
        except BadInput as bad:
            return _error(400, f"{bad.detail!r} is no collection")
        await self._controls.choose(chosen)
        return await self.filter(request)

    async def reset(self, request: web.Request) -> web.Response:
        await self._controls.choose(None)
        return await self.filter(request)


def _row(switch: Switch, cursor: str | None) -> dict[str, Any]:
    source = switch.source
    connected = source.meter.is_connected if source.meter else None
    return {"name": source.name, "paused": bool(switch.is_paused), "connected": connected, "cursor": cursor}


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _json({"error": message}, status)
