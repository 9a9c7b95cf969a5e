"""The status page: one page without anything from elsewhere, and the numbers that it draws."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path

import aiohttp
import orjson
from aiohttp import web

from common.errors import CannotStart
from sluice.flow import Flow
from sluice.history import History
from sluice.report import document
from sluice.targets import look

PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
LOOK_SECONDS = 5.0
PORT = 4180

Targets = Callable[[], Sequence[str]]  # host:port of the daemons that there are now


class StatusPage:
    """Looks at the daemons every few seconds, and shows what it has seen in the last hour."""

    def __init__(self, targets: Targets, look_seconds: float, *, recorded: bool = False) -> None:
        self._targets = targets
        self._recorded = recorded
        self._look_seconds = look_seconds
        self._history = History()
        self._flow = Flow(0.0, ())
        self.watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        async with aiohttp.ClientSession() as http:
            while True:
                self._flow = await look(http, self._targets(), recorded=self._recorded)
                self._history.add(self._flow)
                await asyncio.sleep(self._look_seconds)

    async def page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html", headers=HEADERS)

    async def numbers(self, request: web.Request) -> web.Response:
        """The status, with the points of its history that are newer than `after` (Unix time).

        A fault in the watch is a fault here, or the page would draw what was seen last for ever.
        """
        if self.watching.done():
            self.watching.result()
        try:
            after = float(request.query.get("after", "0"))
        except ValueError:
            raise web.HTTPBadRequest(text="after is a Unix time\n") from None
        body = document(self._flow, self._history) | {"history": self._history.series(after)}
        return web.Response(body=orjson.dumps(body), content_type="application/json", headers=HEADERS)


@asynccontextmanager
async def serving(
    targets: Targets,
    host: str,
    port: int | None = None,
    look_seconds: float = LOOK_SECONDS,
    *,
    recorded: bool = False,
) -> AsyncIterator[str]:
    """The page's URL, for as long as the context lasts. Port 0 is any that is free; None is PORT if that is free.

    Raises CannotStart.
    """
    status = StatusPage(targets, look_seconds, recorded=recorded)
    app = web.Application()
    app.add_routes([web.get("/", status.page), web.get("/status.json", status.numbers)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await _listen(runner, host, PORT if port is None else port)
        except CannotStart:
            if port is not None:
                raise
            await _listen(runner, host, 0)
        yield f"http://{host}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
        status.watching.cancel()
        with suppress(asyncio.CancelledError):
            await status.watching


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise CannotStart(f"port {port}: {error.strerror}; free it, or name another with --port") from error


def _hash_of(tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    digest = sha256(found.group(1).encode()).digest() if found else b""
    return f"'sha256-{base64.b64encode(digest).decode()}'"


# only what stands in the page itself runs: names of hosts come from strangers
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hash_of('script')}; style-src {_hash_of('style')}; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
