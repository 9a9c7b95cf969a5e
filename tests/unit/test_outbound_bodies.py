"""Bodies from hosts that send too much, too slowly or something else: each is cut in time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from common.errors import BadInput, TryLater
from common.outbound import Budget, Outbound
from tests.raw_hosts import QUICK, answer, get, host
from tests.refusals import refused

PATIENT = 3600.0


def says(head: bytes, part: bytes = b"") -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """A host that says this, and nothing more or a part again and again; it never ends by itself."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while part:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        await asyncio.Event().wait()

    return script


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP", "zstd", "identity, gzip"])
async def test_a_compressed_body_is_refused(encoding: str) -> None:
    with refused(BadInput, "encoded_body"):
        await get(answer(b"\x1f\x8b", f"Content-Encoding: {encoding}"))


async def test_a_body_longer_than_announced_as_the_limit_is_refused_unread() -> None:
    with refused(BadInput, "too_large"):
        await get(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n"), max_bytes=1000)


@pytest.mark.parametrize(
    "raw",
    [answer(bytes(1000)), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3E8\r\n%b\r\n0\r\n\r\n" % bytes(1000)],
    ids=["announced", "chunked"],
)
async def test_a_body_as_long_as_the_limit_is_taken(raw: bytes) -> None:
    assert await get(raw, max_bytes=1000) == bytes(1000)
    with refused(BadInput, "too_large"):
        await get(raw, max_bytes=999)


async def test_an_endless_body_is_cut_at_the_limit() -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            await writer.drain()
            sent += 0x10000

    with refused(BadInput, "too_large"):
        await get(flood, max_bytes=1 << 20)
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
    with refused(TryLater, "truncated_body"):
        await get(raw)


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
    with refused(TryLater, "timeout"):
        await get(says(b""), budget=Budget(headers_seconds=0.3, window_seconds=PATIENT))


async def test_a_host_that_dribbles_is_given_up_long_before_its_time() -> None:
    with refused(TryLater, "too_slow"):
        await get(says(b"HTTP/1.1 200 OK\r\n\r\n", b"a"), budget=Budget(window_seconds=0.3, total_seconds=PATIENT))


async def test_a_host_that_falls_silent_is_given_up() -> None:
    silent = says(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1000))
    with refused(TryLater, "timeout"):
        await get(silent, budget=Budget(window_seconds=0.3, total_seconds=PATIENT))


async def test_a_host_that_is_just_fast_enough_is_cut_at_the_total() -> None:
    steady = says(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1000))
    with refused(TryLater, "timeout"):
        await get(steady, budget=Budget(total_seconds=0.8, window_seconds=0.2, min_bytes_per_second=1000))


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000], ids=["half", "no text", "deep"])
async def test_json_that_is_none_is_refused(body: bytes) -> None:
    async with host(answer(body)) as origin, Outbound(allow=[origin]) as outbound:
        with refused(BadInput, "bad_json"):
            await outbound.get_json(f"http://{origin}/", 1 << 20)


async def test_text_that_is_none_is_refused() -> None:
    async with host(answer(b"\xff")) as origin, Outbound(allow=[origin]) as outbound:
        with refused(BadInput, "bad_text"):
            await outbound.get_text(f"http://{origin}/", 100)
