"""A directory of DID documents on loopback, and identities that ask it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from common.identity import Identities
from common.keys import key_of_did_key
from common.outbound import Outbound
from tests.serving import serving

DID = "did:plc:bx5qltwscyqlfyxdthtjdpnm"
MULTIKEY = "zQ3shdP9dcYW4uqeFvUVhRBZtguHbMhZJ5gCFMJ6qrhfVAey8"
KEY = key_of_did_key("did:key:" + MULTIKEY)


def document(**changes: Any) -> dict[str, Any]:
    return {
        "id": DID,
        "alsoKnownAs": ["at://alice.example.com"],
        "verificationMethod": [
            {"id": f"{DID}#atproto", "type": "Multikey", "controller": DID, "publicKeyMultibase": MULTIKEY}
        ],
        "service": [service()],
    } | changes


def service(**changes: Any) -> dict[str, Any]:
    return {
        "id": "#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": "https://pds.example.com",
    } | changes


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
    routes = [web.get(path, directory.serve) for path in ("/{did}", "/.well-known/{did}")]
    async with serving(*routes) as directory.origin, Outbound(allow=[directory.origin]) as outbound:
        yield Identities(outbound, f"http://{directory.origin}", **options)
