"""The only HTTP client for untrusted hosts: a guard on every address, a budget for everything, redirects by hand.

Only GET; no cookies, no proxies from the environment, no compressed bodies. The address is checked at the moment of
connecting, so neither an IP literal nor a name that changes between two look-ups gets past.
"""

import asyncio
import io
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol, Self

import orjson
from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientPayloadError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    InvalidURL,
    TCPConnector,
)
from aiohttp.http_exceptions import HttpProcessingError
from dns.asyncresolver import Resolver
from yarl import URL

from common.errors import BadInput, GiveUp, TryLater
from common.public_addresses import allow_list, checked_url, is_public, origin_of, redirected
from common.public_dns import ForbiddenAddress, PublicResolver
from common.rate_limits import retry_after

LATER_REASONS = ("unreachable", "timeout", "too_slow", "truncated_body", "rate_limited", "server_error")
BAD_REASONS = (
    *("forbidden_url", "forbidden_address", "too_many_redirects", "encoded_body", "too_large", "bad_response"),
    *("bad_json", "bad_text"),
)
MAX_REDIRECTS = 3
MAX_ERROR_BYTES = 64 << 10
USER_AGENT = "sluice (AT Protocol indexer)"
OnHeaders = Callable[[Mapping[str, str]], None]
_ERROR_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")


@dataclass(frozen=True, slots=True)
class Budget:
    """What one request may cost. A body slower than the minimum over a window is cut before its time is up."""

    connect_seconds: float = 5.0
    headers_seconds: float = 15.0
    total_seconds: float = 900.0
    window_seconds: float = 30.0
    min_bytes_per_second: int = 20_000

    @property
    def window_bytes(self) -> int:
        return int(self.window_seconds * self.min_bytes_per_second)


LARGE = Budget()
SMALL = Budget(headers_seconds=10.0, total_seconds=15.0)


class Sink(Protocol):
    """Where a body goes, part by part. It may raise to stop the download."""

    def write(self, part: bytes, /) -> object: ...


class Refused(GiveUp):
    """A status that is about this request (4xx). `error` is the name in an XRPC error body, "" without one."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__("refused", f"HTTP {status} {error} {message}".rstrip())
        self.status = status
        self.error = error


class Outbound:
    """An async context manager. All methods raise:

    TryLater (LATER_REASONS; with the seconds that the host asked for, at most an hour),
    BadInput (BAD_REASONS) for a host that must not be asked or an answer that must not be read, Refused.
    """

    def __init__(
        self, *, allow: Iterable[str] = (), user_agent: str = USER_AGENT, names: Resolver | None = None
    ) -> None:
        """`allow`: origins as `host:port` that the operator vouches for; `names`: whom to ask instead of the system's
        name servers. Raises CannotStart.
        """
        self._allowed = allow_list(tuple(allow))
        self._headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
        self._names = names
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        guarded = TCPConnector(limit=0, resolver=PublicResolver(self._names), socket_factory=_public_socket)
        self._guarded = await self._stack.enter_async_context(self._session(guarded))
        self._trusted = await self._stack.enter_async_context(self._session(TCPConnector(limit=0)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _session(self, connector: TCPConnector) -> ClientSession:
        return ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            headers=self._headers,
            auto_decompress=False,
            trust_env=False,
            timeout=ClientTimeout(total=None),  # each request has its own; a websocket stays open
        )

    def websocket_client(self, url: str) -> ClientSession:
        """What may open a websocket at this host, given by its http(s) URL. Raises BadInput as a request does."""
        return self._trusted if origin_of(checked_url(url, self._allowed)) in self._allowed else self._guarded

    async def get_json(self, url: str, max_bytes: int, budget: Budget = SMALL) -> Any:
        try:
            return orjson.loads(await self.download(url, max_bytes, budget))
        except orjson.JSONDecodeError as error:
            raise BadInput("bad_json", str(error)) from error

    async def get_text(self, url: str, max_bytes: int, budget: Budget = SMALL) -> str:
        try:
            return (await self.download(url, max_bytes, budget)).decode()
        except UnicodeDecodeError as error:
            raise BadInput("bad_text", str(error)) from error

    async def download(self, url: str, max_bytes: int, budget: Budget = LARGE) -> bytes:
        """The body."""
        body = io.BytesIO()
        await self.download_into(body, url, max_bytes, budget)
        return body.getvalue()

    async def download_into(
        self,
        sink: Sink,
        url: str,
        max_bytes: int,
        budget: Budget = LARGE,
        *,
        on_headers: OnHeaders = lambda headers: None,
    ) -> None:
        """The body goes to the sink as it comes; `on_headers` hears those of the answer, whatever its status."""
        try:
            async with asyncio.timeout(budget.total_seconds):
                response = await self._follow(checked_url(url, self._allowed), budget)
                async with response:
                    on_headers(response.headers)
                    await _raise_for_status(response, budget)
                    await _copy_body(response, sink, max_bytes, budget)
        except TimeoutError as error:
            raise TryLater("timeout", str(error)) from error
        except (ClientError, HttpProcessingError, OSError) as error:
            raise _translated(error) from error

    async def _follow(self, url: URL, budget: Budget) -> ClientResponse:
        """The first answer that is no redirect."""
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._ask(url, budget)
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or location is None:
                return response
            response.close()
            url = redirected(url, location, self._allowed)
        raise BadInput("too_many_redirects", str(url.origin()))

    async def _ask(self, url: URL, budget: Budget) -> ClientResponse:
        session = self._trusted if origin_of(url) in self._allowed else self._guarded
        limits = ClientTimeout(total=None, connect=budget.connect_seconds, sock_read=budget.window_seconds)
        async with asyncio.timeout(budget.headers_seconds):
            return await session.get(url, allow_redirects=False, timeout=limits)


async def _copy_body(response: ClientResponse, sink: Sink, max_bytes: int, budget: Budget) -> None:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BadInput("encoded_body", response.headers["Content-Encoding"][:40])
    if (response.content_length or 0) > max_bytes:
        raise BadInput("too_large", f"{response.content_length} bytes announced")
    size = 0
    window_end, wanted = time.monotonic() + budget.window_seconds, budget.window_bytes
    async for part in response.content.iter_any():
        size += len(part)
        if size > max_bytes:
            raise BadInput("too_large", f"more than {max_bytes} bytes")
        sink.write(part)
        if time.monotonic() < window_end:
            continue
        if size < wanted:
            raise TryLater("too_slow", f"{size} bytes")
        window_end, wanted = time.monotonic() + budget.window_seconds, size + budget.window_bytes


async def _raise_for_status(response: ClientResponse, budget: Budget) -> None:
    status = response.status
    if status < 300:
        return
    if status == 429:
        raise TryLater("rate_limited", f"HTTP {status}", retry_after(response.headers, time.time()))
    if status >= 500 or status in (408, 425):
        raise TryLater("server_error", f"HTTP {status}", retry_after(response.headers, time.time()))
    body = io.BytesIO()
    try:
        await _copy_body(response, body, MAX_ERROR_BYTES, budget)
    except BadInput:
        body = io.BytesIO()
    raise Refused(status, *xrpc_error(body.getvalue()))


def xrpc_error(body: bytes) -> tuple[str, str]:
    """Name and message of an XRPC error body; empty where there is none (spec: xrpc, error responses)."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", ""
    if not isinstance(answer, dict):
        return "", ""
    name, message = answer.get("error"), answer.get("message")
    if not isinstance(name, str) or not _ERROR_NAME.fullmatch(name):
        return "", ""
    return name, message[:200] if isinstance(message, str) else ""


def _translated(error: Exception) -> BadInput | TryLater:
    if isinstance(error, ClientConnectorError) and isinstance(error.os_error, ForbiddenAddress):
        return BadInput("forbidden_address", str(error.os_error))
    if isinstance(error, InvalidURL):
        return BadInput("forbidden_url", str(error))
    if isinstance(error, ClientPayloadError):
        return TryLater("truncated_body", str(error))
    if isinstance(error, ClientResponseError | HttpProcessingError):
        return BadInput("bad_response", str(error)[:200])
    return TryLater("unreachable", str(error)[:200])


def _public_socket(info: tuple[Any, ...]) -> socket.socket:
    """Called with the final address of every attempt to connect, also for literals."""
    family, kind, protocol, _, address = info
    if not is_public(address[0]) or address[1] != 443:
        raise ForbiddenAddress(f"{address[0]} port {address[1]}")
    return socket.socket(family, kind, protocol)
