"""The client for untrusted hosts, against hosts that deserve it: raw bytes on loopback, refused destinations."""

import asyncio
import dataclasses
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from aiohttp import ClientConnectorError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from yarl import URL

from common.errors import BadInput, CannotStart, TryLater
from common.outbound import Budget, Outbound, Refused, _public_socket, xrpc_error
from common.public_addresses import allow_list, checked_url, is_public, redirected
from common.public_dns import ForbiddenAddress, PublicResolver
from common.rate_limits import RateLimit, rate_limit, retry_after

QUICK = Budget(connect_seconds=1, headers_seconds=0.3, total_seconds=2, window_seconds=0.3, min_bytes_per_second=1000)
NONE = frozenset[str]()

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def host(script: Script | bytes) -> AsyncIterator[str]:
    """`host:port` of a server that reads one request at a time and answers by the script."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            if isinstance(script, bytes):
                writer.write(script)
            else:
                await script(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
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


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "0.0.0.1", "0.1.2.3", "192.0.0.8", "192.0.0.170", "192.0.2.1", "198.18.0.1", "198.51.100.7"),
        *("203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
        *("::", "::1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1"),
        *("2002:7f00:1::", "2001::1", "2001:db8::1", "3fff::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1"),
        *("fec0::1", "ff02::1", "100::1", "::ffff:0:127.0.0.1", "4000::1"),
    ],
)
def test_an_address_that_is_not_on_the_internet_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450:4001::1"]
)
def test_an_address_on_the_internet_is_taken(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://127.0.0.1/", "forbidden_address"),
        ("https://[::1]/", "forbidden_address"),
        ("https://[::ffff:127.0.0.1]/", "forbidden_address"),
        ("https://[::ffff:7f00:1]/", "forbidden_address"),
        ("https://[fe80::1%25eth0]/", "forbidden_address"),
        ("https://0.0.0.0/", "forbidden_address"),
        ("https://169.254.169.254/latest/meta-data", "forbidden_address"),
        ("https://\uff11\uff12\uff17.0.0.1/", "forbidden_address"),
        ("http://example.com/", "forbidden_url"),
        ("https://example.com:8443/", "forbidden_url"),
        ("https://user:password@example.com/", "forbidden_url"),
        ("https://example.com@127.0.0.1/", "forbidden_url"),
        ("file:///etc/passwd", "forbidden_url"),
        ("gopher://127.0.0.1:70/_x", "forbidden_url"),
        ("//example.com/", "forbidden_url"),
        ("https://", "forbidden_url"),
        ("https:///path", "forbidden_url"),
        ("https://[::1", "forbidden_url"),
        ("https://example.com:99999/", "forbidden_url"),
        ("https://example.com/" + "b" * 5000, "forbidden_url"),
        ("http://example.com:443/", "forbidden_url"),
        ("", "forbidden_url"),
    ],
)
def test_a_url_that_leads_elsewhere_than_the_internet_is_refused(url: str, reason: str) -> None:
    with pytest.raises(BadInput) as refusal:
        checked_url(url, NONE)
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    "url",
    [
        *("https://127.1/", "https://2130706433/", "https://0x7f.0.0.1/", "https://0x7f000001/", "https://0177.0.0.1/"),
        *("https://localhost/", "https://localhost./", "https://127.0.0.1./", "https://LOCALHOST/", "https://0/"),
        *("https://metadata/", "https://127.0.0.1.0x1/", "https://a..b.test/", "https://-/", "https://a_b.-test/"),
    ],
)
def test_a_host_that_is_no_name_of_the_internet_is_refused_without_asking_for_it(url: str) -> None:
    with pytest.raises(BadInput):
        checked_url(url, NONE)


@pytest.mark.parametrize("url", ["https://bücher.example/", "https://xn--bcher-kva.example./", "https://1.1.1.1/x?y=z"])
def test_a_name_or_a_public_address_may_be_asked(url: str) -> None:
    assert checked_url(url, NONE).scheme == "https"


class NameServer(asyncio.DatagramProtocol):
    """A DNS on loopback, that answers every question for an address with these."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.questions = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.questions += 1
        query = dns.message.from_wire(data)
        [question] = query.question
        answer = dns.message.make_response(query)
        found = [text for text in self.addresses if (":" in text) == (question.rdtype == dns.rdatatype.AAAA)]
        if found:
            answer.answer.append(dns.rrset.from_text(question.name, 0, "IN", question.rdtype, *found))
        self._transport.sendto(answer.to_wire(), address)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[tuple[NameServer, dns.asyncresolver.Resolver]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(*addresses), local_addr=("127.0.0.1", 0))
    try:
        yield server, asking(transport.get_extra_info("sockname")[1])
    finally:
        transport.close()


def asking(port: int) -> dns.asyncresolver.Resolver:
    names = dns.asyncresolver.Resolver(configure=False)
    names.nameservers, names.port = ["127.0.0.1"], port
    return names


@pytest.mark.parametrize("addresses", [["10.0.0.1", "127.0.0.1"], ["::1", "fd00::1"], ["169.254.169.254", "::1"]])
async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(addresses: list[str]) -> None:
    async with name_server(*addresses) as (server, names), Outbound(names=names) as outbound:
        with pytest.raises(BadInput) as refusal:
            await outbound.download("https://pds.example.com/", 100, QUICK)
    assert refusal.value.reason == "forbidden_address"
    assert server.questions > 0


async def test_of_a_name_with_both_kinds_only_the_public_addresses_are_left() -> None:
    async with name_server("10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111") as (_, names):
        found = await PublicResolver(names).resolve("pds.example.com", 443, socket.AF_UNSPEC)
    assert sorted(answer["host"] for answer in found) == ["1.1.1.1", "2606:4700::1111"]
    assert {answer["family"] for answer in found} == {socket.AF_INET, socket.AF_INET6}


async def test_a_name_without_an_address_is_unreachable() -> None:
    async with name_server() as (_, names), Outbound(names=names) as outbound:
        with pytest.raises(TryLater) as failure:
            await outbound.download("https://pds.example.com/", 100, QUICK)
    assert failure.value.reason == "unreachable"


async def test_a_name_server_that_says_nothing_takes_no_longer_than_connecting_may() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        async with Outbound(names=asking(silent.getsockname()[1])) as outbound:
            with pytest.raises(TryLater) as failure:
                await outbound.download("https://pds.example.com/", 100, QUICK)
    assert failure.value.reason == "timeout"


async def test_the_address_is_checked_at_the_moment_of_connecting() -> None:
    """Nothing but the connector sees an IP literal, and a name again after it was checked."""
    async with host(answer(b"secret")) as origin, Outbound() as outbound:
        with pytest.raises(ClientConnectorError) as refusal:
            await outbound._guarded.get(f"http://{origin}/")
        assert isinstance(refusal.value.os_error, ForbiddenAddress)


async def test_an_allowed_origin_may_be_private_and_speak_plain_http() -> None:
    assert await get(answer(b"hello")) == b"hello"


async def test_only_the_port_that_is_listed_is_allowed() -> None:
    async with host(answer(b"secret")) as origin, Outbound(allow=["127.0.0.1:1"]) as outbound:
        with pytest.raises(BadInput) as refusal:
            await outbound.download(f"http://{origin}/", 100, QUICK)
    assert refusal.value.reason == "forbidden_url"


@pytest.mark.parametrize("entry", ["localhost", "http://localhost:80", ":80", "localhost:", "localhost:http"])
def test_an_allow_list_that_cannot_be_meant_stops_the_start(entry: str) -> None:
    with pytest.raises(CannotStart):
        allow_list([entry])


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("https://127.0.0.1/", "forbidden_address"),
        ("https://[::1]/", "forbidden_address"),
        ("http://169.254.169.254/latest/meta-data", "forbidden_url"),
        ("file:///etc/passwd", "forbidden_url"),
        ("gopher://localhost:70/", "forbidden_url"),
        ("http://[", "forbidden_url"),
    ],
)
async def test_a_redirect_to_an_internal_address_is_refused(location: str, reason: str) -> None:
    with pytest.raises(BadInput) as refusal:
        await get(answer(b"", f"Location: {location}", status="302 Found"))
    assert refusal.value.reason == reason


def test_the_internet_may_not_redirect_to_an_allowed_origin() -> None:
    allowed = allow_list(["plc.internal:2582"])
    assert redirected(URL("http://plc.internal:2582/a"), "/b", allowed) == URL("http://plc.internal:2582/b")
    with pytest.raises(BadInput):
        redirected(URL("https://pds.example.com/"), "http://plc.internal:2582/", allowed)


async def test_a_redirect_is_followed_and_a_chain_of_four_is_not() -> None:
    hops = 0

    async def redirect(writer: asyncio.StreamWriter) -> None:
        nonlocal hops
        hops += 1
        writer.write(answer(b"", f"Location: /{hops}", status="302 Found") if hops != 4 else answer(b"there"))

    async with host(redirect) as origin, Outbound(allow=[origin]) as outbound:
        assert await outbound.download(f"http://{origin}/", 100, QUICK) == b"there"
        with pytest.raises(BadInput) as refusal:
            await outbound.download(f"http://{origin}/", 100, QUICK)
    assert refusal.value.reason == "too_many_redirects"
    assert hops == 8


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP", "zstd", "identity, gzip"])
async def test_a_compressed_body_is_refused(encoding: str) -> None:
    with pytest.raises(BadInput) as refusal:
        await get(answer(b"\x1f\x8b", f"Content-Encoding: {encoding}"))
    assert refusal.value.reason == "encoded_body"


async def test_the_request_names_us_and_asks_for_no_compression_and_no_cookie_comes_back() -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(b"", "Set-Cookie: id=1"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    origin = f"localhost:{server.sockets[0].getsockname()[1]}"
    async with server, Outbound(allow=[origin], user_agent="sluice-test") as outbound:
        for _ in range(2):
            await outbound.download(f"http://{origin}/", 100, QUICK)
    for request in seen:
        assert b"User-Agent: sluice-test" in request
        assert b"Accept-Encoding: identity" in request
        assert b"Cookie" not in request


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert await get(answer(b"direct")) == b"direct"


async def test_a_body_longer_than_announced_as_the_limit_is_refused_unread() -> None:
    async def announce(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        await asyncio.sleep(10)

    started = time.monotonic()
    with pytest.raises(BadInput) as refusal:
        await get(announce, max_bytes=1000)
    assert refusal.value.reason == "too_large"
    assert time.monotonic() - started < 1


async def test_an_endless_body_is_cut_at_the_limit() -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            await writer.drain()
            sent += 0x10000

    with pytest.raises(BadInput) as refusal:
        await get(flood, max_bytes=1 << 20)
    assert refusal.value.reason == "too_large"
    assert sent < 32 << 20


async def test_every_byte_goes_to_the_sink_which_can_stop_the_download() -> None:
    class Sink:
        heard = 0
        most = 100_000

        def write(self, part: bytes) -> None:
            self.heard += len(part)
            if self.heard > self.most:
                raise TryLater("memory_full")

    seen: list[str | None] = []
    sink = Sink()
    async with host(answer(bytes(1 << 20))) as origin, Outbound(allow=[origin]) as outbound:
        with pytest.raises(TryLater, match="memory_full"):
            await outbound.download_into(sink, f"http://{origin}/", 1 << 21, QUICK)
        sink.heard, sink.most = 0, 1 << 20
        await outbound.download_into(
            sink, f"http://{origin}/", 1 << 21, QUICK, on_headers=lambda all: seen.append(all.get("Content-Length"))
        )
    assert sink.heard == 1 << 20
    assert seen == [str(1 << 20)]


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
async def test_a_body_that_breaks_off_is_no_body(raw: bytes) -> None:
    with pytest.raises(TryLater) as failure:
        await get(raw)
    assert failure.value.reason == "truncated_body"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"".join([b"HTTP/1.1 200 OK\r\n", *(b"X-%d: a\r\n" % n for n in range(1000)), b"\r\n"]),
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\nhello\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
    ],
)
async def test_an_answer_that_is_not_http_is_bad_or_a_failure_and_nothing_else(raw: bytes) -> None:
    with pytest.raises((BadInput, TryLater)) as refusal:
        await get(raw)
    assert refusal.value.reason in ("bad_response", "truncated_body", "unreachable")


async def test_a_host_that_accepts_and_says_nothing_is_given_up() -> None:
    async def silent(_: asyncio.StreamWriter) -> None:
        await asyncio.sleep(10)

    started = time.monotonic()
    with pytest.raises(TryLater) as failure:
        await get(silent, budget=Budget(headers_seconds=0.3))
    assert failure.value.reason == "timeout"
    assert time.monotonic() - started < 1.5


async def test_a_host_that_dribbles_is_given_up_long_before_its_time() -> None:
    async def dribble(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)

    started = time.monotonic()
    with pytest.raises(TryLater) as failure:
        await get(dribble, budget=Budget(window_seconds=0.3))
    assert failure.value.reason == "too_slow"
    assert time.monotonic() - started < 2


async def test_a_host_that_falls_silent_is_given_up() -> None:
    async def stall(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1000))
        await writer.drain()
        await asyncio.sleep(10)

    with pytest.raises(TryLater) as failure:
        await get(stall, budget=Budget(window_seconds=0.3))
    assert failure.value.reason == "timeout"


async def test_a_host_that_is_just_fast_enough_is_cut_at_the_total() -> None:
    async def steady(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(1000))
            await writer.drain()
            await asyncio.sleep(0.02)

    with pytest.raises(TryLater) as failure:
        await get(steady, budget=Budget(total_seconds=0.8, window_seconds=0.2, min_bytes_per_second=1000))
    assert failure.value.reason == "timeout"


async def test_a_closed_port_is_unreachable() -> None:
    async with host(b"") as origin:
        pass
    async with Outbound(allow=[origin]) as outbound:
        with pytest.raises(TryLater) as failure:
            await outbound.download(f"http://{origin}/", 100, QUICK)
    assert failure.value.reason == "unreachable"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("429 Slow", "rate_limited"),
        ("503 Away", "server_error"),
        ("500 Oops", "server_error"),
        ("408 Slow", "server_error"),
    ],
)
async def test_a_status_that_passes_is_tried_later_after_the_wait_it_asks_for(status: str, reason: str) -> None:
    with pytest.raises(TryLater) as failure:
        await get(answer(b"", "Retry-After: 7", status=status))
    assert (failure.value.reason, failure.value.seconds) == (reason, 7.0)


async def test_a_refusal_carries_the_name_of_its_xrpc_error() -> None:
    with pytest.raises(Refused) as refusal:
        await get(answer(b'{"error":"RepoTakendown","message":"gone"}', status="400 Bad Request"))
    assert (refusal.value.status, refusal.value.error) == (400, "RepoTakendown")


async def test_a_refusal_with_a_hostile_body_is_a_refusal_without_a_name() -> None:
    for body in (b"<html>", b"[" * 100_000, b"{}" + bytes(100_000), b'{"error":1}', b'{"error":"a b"}', b"null"):
        with pytest.raises(Refused) as refusal:
            await get(answer(body, status="404 Not Found"))
        assert (refusal.value.status, refusal.value.error) == (404, "")


def test_an_error_name_is_a_word_and_its_message_short() -> None:
    assert xrpc_error(b'{"error":"RepoNotFound","message":"' + b"a" * 1000 + b'"}') == ("RepoNotFound", "a" * 200)
    assert xrpc_error(b'{"error":"RepoNotFound"}') == ("RepoNotFound", "")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "12"}, 12.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "99999999999999999999999999"}, 3600.0),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Fri, 20 Nov 2020 12:00:30 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "٣"}, None),
        ({"RateLimit-Reset": "1795176060"}, 60.0),
        ({"RateLimit-Reset": "300"}, 300.0),
    ],
)
def test_the_wait_a_host_asks_for_is_at_most_an_hour(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, 1795176000.0) == seconds  # 2026-11-20T12:00:00Z


@pytest.mark.parametrize(
    ("remaining", "reset", "limit"),
    [
        ("2999", "300", RateLimit(2999, 300.0)),
        ("0", "1795176060", RateLimit(0, 60.0)),
        ("5", "1795175000", RateLimit(5, 1.0)),
        ("9" * 39, "9" * 39, RateLimit(1_000_000, 3600.0)),
        ("9" * 5000, "300", None),
        ("many", "300", None),
        ("-1", "300", None),
        ("٣", "300", None),
        ("5", "", None),
    ],
)
def test_what_is_left_of_a_limit_is_read_if_both_numbers_are_there(
    remaining: str, reset: str, limit: RateLimit | None
) -> None:
    assert rate_limit({"RateLimit-Remaining": remaining, "RateLimit-Reset": reset}, 1795176000.0) == limit
    assert rate_limit({}, 1795176000.0) is None
    if limit:
        whole = {"RateLimit-Remaining": remaining, "RateLimit-Reset": reset, "RateLimit-Limit": "3000"}
        assert rate_limit(whole, 1795176000.0) == dataclasses.replace(limit, limit=3000)


async def test_json_and_text_are_what_they_claim_to_be() -> None:
    for body, reason in ((b"{", "bad_json"), (b"\xff", "bad_json"), (b"[" * 100_000, "bad_json")):
        async with host(answer(body)) as origin, Outbound(allow=[origin]) as outbound:
            with pytest.raises(BadInput) as refusal:
                await outbound.get_json(f"http://{origin}/", 1 << 20)
            assert refusal.value.reason == reason
    async with host(answer(b"\xff")) as origin, Outbound(allow=[origin]) as outbound:
        with pytest.raises(BadInput) as refusal:
            await outbound.get_text(f"http://{origin}/", 100)
        assert refusal.value.reason == "bad_text"


def test_a_socket_is_made_for_port_443_of_a_public_address_only() -> None:
    def made(address: str, port: int) -> bool:
        try:
            _public_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))).close()
        except ForbiddenAddress:
            return False
        return True

    assert made("1.1.1.1", 443)
    assert not made("1.1.1.1", 80)
    assert not made("127.0.0.1", 443)


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(self_signed("localhost"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    origin = f"localhost:{server.sockets[0].getsockname()[1]}"
    async with server, Outbound(allow=[origin]) as outbound:
        with pytest.raises(TryLater) as failure:
            await outbound.download(f"https://{origin}/", 100, QUICK)
    assert failure.value.reason == "unreachable"


def self_signed(name: str) -> bytes:
    """A key and its own certificate for `name`, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + certificate.public_bytes(Encoding.PEM)
