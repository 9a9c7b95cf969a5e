"""A directory of DID documents on loopback, and identities that ask it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from common.identity import Identities
from common.outbound import Outbound


class Directory:
    """`answers` are documents or statuses; while `open` is cleared it does not answer. It is a did:web, too."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.requests: Counter[str] = Counter()
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.origin = ""

    @property
    def did(self) -> str:
        """Whose document is answers["did.json"]."""
        return "did:web:" + self.origin.replace(":", "%3A")

    async def serve(self, request: web.Request) -> web.Response:
        did = request.match_info["did"]
        self.requests[did] += 1
        self.asked.set()
        await self.open.wait()
        answer = self.answers.get(did, 404)
        headers = {"Retry-After": "60"} if answer == 429 else {}
        return web.Response(status=answer, headers=headers) if isinstance(answer, int) else web.json_response(answer)


@asynccontextmanager
async def identities(directory: Directory, **options: Any) -> AsyncIterator[Identities]:
    app = web.Application()
    app.router.add_get("/{did}", directory.serve)
    app.router.add_get("/.well-known/{did}", directory.serve)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    directory.origin = f"127.0.0.1:{runner.addresses[0][1]}"
    async with Outbound(allow=[directory.origin]) as outbound:
        yield Identities(outbound, f"http://{directory.origin}", **options)
    await runner.cleanup()
