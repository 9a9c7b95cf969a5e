"""The client for untrusted hosts: whom it asks, what it follows, and what it makes of a status."""

import asyncio

import pytest
from aiohttp import ClientConnectorError

from common.errors import BadInput, TryLater
from common.outbound import Outbound, Refused, xrpc_error
from common.public_dns import ForbiddenAddress
from tests.raw_hosts import QUICK, answer, get, host
from tests.refusals import refused


async def test_an_allowed_origin_may_be_private_and_speak_plain_http() -> None:
    assert await get(answer(b"hello")) == b"hello"


async def test_only_the_port_that_is_listed_is_allowed() -> None:
    async with host(answer(b"secret")) as origin, Outbound(allow=["127.0.0.1:1"]) as outbound:
        with refused(BadInput, "forbidden_url"):
            await outbound.download(f"http://{origin}/", 100, QUICK)


async def test_a_websocket_is_opened_outside_the_guard_only_at_an_allowed_origin() -> None:
    async with host(answer(b"")) as origin, Outbound(allow=[origin]) as outbound:
        async with outbound.websocket_client(f"http://{origin}/").get(f"http://{origin}/") as response:
            assert response.status == 200
        with pytest.raises(ClientConnectorError) as refusal:
            await outbound.websocket_client("https://relay.example.com/").get(f"http://{origin}/")
        assert isinstance(refusal.value.os_error, ForbiddenAddress)
        with refused(BadInput, "forbidden_address"):
            outbound.websocket_client("https://127.0.0.1/")


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
    with refused(BadInput, reason):
        await get(answer(b"", f"Location: {location}", status="302 Found"))


async def test_a_redirect_is_followed_and_a_chain_of_four_is_not() -> None:
    hops = 0

    async def redirect(writer: asyncio.StreamWriter) -> None:
        nonlocal hops
        hops += 1
        writer.write(answer(b"", f"Location: /{hops}", status="302 Found") if hops != 4 else answer(b"there"))

    async with host(redirect) as origin, Outbound(allow=[origin]) as outbound:
        assert await outbound.download(f"http://{origin}/", 100, QUICK) == b"there"
        with refused(BadInput, "too_many_redirects"):
            await outbound.download(f"http://{origin}/", 100, QUICK)
    assert hops == 8


async def test_the_request_names_us_and_asks_for_no_compression_and_no_cookie_comes_back() -> None:
    requests: list[bytes] = []
    async with host(answer(b"", "Set-Cookie: id=1"), requests=requests) as address:
        origin = address.replace("127.0.0.1", "localhost")  # nobody keeps the cookies of an address
        async with Outbound(allow=[origin], user_agent="sluice-test") as outbound:
            for _ in range(2):
                await outbound.download(f"http://{origin}/", 100, QUICK)
    assert len(requests) == 2
    for request in requests:
        assert b"User-Agent: sluice-test" in request
        assert b"Accept-Encoding: identity" in request
        assert b"Cookie" not in request


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert await get(answer(b"direct")) == b"direct"


async def test_a_closed_port_is_unreachable() -> None:
    async with host(b"") as origin:
        pass
    async with Outbound(allow=[origin]) as outbound:
        with refused(TryLater, "unreachable"):
            await outbound.download(f"http://{origin}/", 100, QUICK)


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


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[" * 100_000, b'{"error":"Long"}' + b" " * 100_000, b'{"error":1}', b'{"error":"a b"}', b"null"],
    ids=["no JSON", "deep", "long", "number", "two words", "null"],
)
async def test_a_refusal_with_a_hostile_body_is_a_refusal_without_a_name(body: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        await get(answer(body, status="404 Not Found"))
    assert (refusal.value.status, refusal.value.error) == (404, "")


def test_an_error_name_is_a_word_and_its_message_short() -> None:
    assert xrpc_error(b'{"error":"RepoNotFound","message":"' + b"a" * 1000 + b'"}') == ("RepoNotFound", "a" * 200)
    assert xrpc_error(b'{"error":"RepoNotFound"}') == ("RepoNotFound", "")
