"""A TCP proxy on loopback that holds requests, loses replies, breaks and refuses connections, when it is told to."""

import asyncio
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """An async context between a client and the server of a URL. `url` is what the client is given.

    `cuts` counts the replies that were lost, `refused` the connections that were not taken, `held` the requests
    that are.
    """

    def __init__(self, server_url: str) -> None:
        self._server = urlsplit(server_url)
        self._connections: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._lost: bytes | None = None
        self._seen = False
        self._refuse = False
        self.cuts = 0
        self.refused = 0
        self._held: bytes | None = None
        self.held = 0

    @property
    def url(self) -> str:
        password = f"{self._server.username or ''}:{self._server.password}@" if self._server.password else ""
        return self._server._replace(netloc=f"{password}127.0.0.1:{self.port}").geturl()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        self._listener.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def lose_reply_to(self, request: bytes) -> None:
        """Once: the server carries out a request that contains this, and the client never hears of it."""
        self._lost, self._seen = request, False

    def hold(self, request: bytes) -> None:
        """From now on the server never hears of requests that contain this, nor of what follows on their connection."""
        self._held = request

    def refuse(self) -> None:
        """No connection from now on, and none that there was."""
        self._refuse = True
        self.break_connections()

    def accept(self) -> None:
        self._refuse = False

    def break_connections(self) -> None:
        for writer in tuple(self._connections):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuse:
            self.refused += 1
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(self._server.hostname, self._server.port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, server_writer}
        self._connections |= both
        pumps = {
            asyncio.create_task(self._pump(reader, server_writer, is_reply=False)),
            asyncio.create_task(self._pump(server_reader, writer, is_reply=True)),
        }
        self._pumps |= pumps
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        self._connections -= both
        for end in both:
            end.transport.abort()
        await asyncio.wait(pumps)
        self._pumps -= pumps

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        try:
            while data := await reader.read(1 << 16):
                if is_reply and self._seen:
                    self._seen = False
                    self.cuts += 1
                    self.break_connections()
                    return
                if not is_reply and self._held and self._held in data:
                    self.held += 1
                    await asyncio.Event().wait()
                writer.write(data)
                if not is_reply and self._lost and self._lost in data:
                    self._lost, self._seen = None, True
                await writer.drain()
        except OSError:
            return
