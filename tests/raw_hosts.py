"""Hosts on loopback that answer with the bytes a test gives them, and what our client makes of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext

from common.outbound import Budget, Outbound

QUICK = Budget(connect_seconds=1, headers_seconds=0.3, total_seconds=2, window_seconds=0.3, min_bytes_per_second=1000)
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def host(
    script: Script | bytes, *, requests: list[bytes] | None = None, tls: SSLContext | None = None
) -> AsyncIterator[str]:
    """`host:port` of a server that reads one request of a connection, notes it and answers by the script."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            if requests is not None:
                requests.append(request)
            if isinstance(script, bytes):
                writer.write(script)
            else:
                await script(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def get(script: Script | bytes, *, max_bytes: int = 1 << 20, budget: Budget = QUICK) -> bytes:
    async with host(script) as origin, Outbound(allow=[origin]) as outbound:
        return await outbound.download(f"http://{origin}/", max_bytes, budget)


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
