"""What a recorded network answers to whoever asks it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from sluice.network import RecordedNetwork

StartNetwork = Callable[..., Awaitable[RecordedNetwork]]
SUBSCRIBE = "/xrpc/com.atproto.sync.subscribeRepos"


async def received(socket: ClientWebSocketResponse, count: int) -> list[bytes]:
    async with asyncio.timeout(10):
        return [await socket.receive_bytes() for _ in range(count)]


async def is_closed(socket: ClientWebSocketResponse) -> bool:
    async with asyncio.timeout(10):
        return (await socket.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)


async def answer(http: ClientSession, network: RecordedNetwork, method: str, **query: str) -> tuple[int, Any]:
    async with http.get(f"{network.url}/xrpc/{method}", params=query) as response:
        return response.status, await response.json()
