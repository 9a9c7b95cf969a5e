"""One subscription against hosts that behave, and hosts that do not: over a real websocket, on loopback."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientSession, web
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from common.dag_cbor import encode
from ingester.accounts import FIREHOSE, Account
from ingester.frames import events_of
from ingester.framing import FrameResult
from ingester.gap_watch import GapWatch
from ingester.gaps import GapLedger
from ingester.metrics import HostMeter
from ingester.reading_ahead import PlainReader, ReadAhead
from ingester.subscription import MAX_FRAME_BYTES, TRIES_AT_A_FRAME, Subscription

TOO_LARGE = bytes(MAX_FRAME_BYTES + 1)
DID = "did:plc:madeheremadeheremadehere"
Script = Callable[[web.WebSocketResponse], Awaitable[None]]


class Host:
    """Every connection does what the script says; what was asked is kept."""

    def __init__(self) -> None:
        self.script: Script = said()
        self.cursors: list[int] = []
        self.refusal: web.Response | None = None
        self.url = ""

    def has(self, frames: Mapping[int, bytes], at_the_end: Sequence[bytes] = ()) -> None:
        """As a relay does: what comes after the cursor, and an error to whoever asks for what lies beyond it all."""

        async def script(socket: web.WebSocketResponse) -> None:
            cursor = self.cursors[-1]
            after = [frame for seq, frame in frames.items() if seq > cursor]
            with suppress(ConnectionError):  # who finds a frame too large has gone
                await said(*(after or at_the_end if cursor <= max(frames) else [error("FutureCursor")]))(socket)

        self.script = script

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.cursors.append(int(request.query["cursor"]))
        if self.refusal is not None:
            return self.refusal
        socket = web.WebSocketResponse(compress=False, autoping=False)
        await socket.prepare(request)
        await self.script(socket)
        return socket


class Reader:
    """A subscription, and the numbers of what it delivered."""

    def __init__(self, http: ClientSession, url: str, idle_seconds: float = 30.0, gaps: GapWatch | None = None) -> None:
        self.seqs: list[int] = []
        self.dropped: list[dict[str, int]] = []
        account, meter = Account(FIREHOSE), HostMeter(FIREHOSE.name, "here")

        def read(frame: bytes) -> FrameResult:
            return events_of(frame, lambda collection: True)

        reading = partial(ReadAhead, PlainReader(read), None)
        self._subscription = Subscription(
            http, url, reading, idle_seconds=idle_seconds, account=account, meter=meter, gaps=gaps
        )

    async def session(
        self, position: int = 0, deliver: Callable[[FrameResult], Awaitable[None]] | None = None
    ) -> float:
        async with asyncio.timeout(20):
            return await self._subscription.session(position, deliver or self._keep)

    async def _keep(self, result: FrameResult) -> None:
        self.seqs.append(result.seq)
        self.dropped.append(result.dropped)


@asynccontextmanager
async def serving() -> AsyncIterator[Host]:
    host = Host()
    app = web.Application()
    app.router.add_get("/subscribe", host.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/subscribe"
    try:
        yield host
    finally:
        await runner.cleanup()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with serving() as host:
        yield host


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def reader(http: ClientSession, host: Host) -> Reader:
    return Reader(http, host.url)


def identity(seq: int, **more: Any) -> bytes:
    body = {"seq": seq, "did": DID, "time": "2026-11-20T00:00:00Z"} | more
    return encode({"op": 1, "t": "#identity"}) + encode(body)


def error(name: str) -> bytes:
    return encode({"op": -1}) + encode({"error": name})


def said(*messages: bytes | str) -> Script:
    """Say this, and leave."""

    async def script(socket: web.WebSocketResponse) -> None:
        for message in messages:
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))

    return script


def moved(name: str, **labels: str) -> Callable[[], float]:
    """How far a metric has moved since."""
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    return lambda: (REGISTRY.get_sample_value(name, labels) or 0.0) - before


async def test_frames_after_the_cursor_are_delivered_in_order(host: Host, reader: Reader) -> None:
    host.script = said(identity(8), identity(9), identity(12))
    assert await reader.session(7) > 0
    assert (host.cursors, reader.seqs) == ([7], [8, 9, 12])


async def test_without_a_cursor_the_oldest_event_is_asked_for(host: Host, reader: Reader) -> None:
    await reader.session(0)
    assert host.cursors == [0]


async def test_a_frame_of_five_megabytes_comes_through(host: Host, reader: Reader) -> None:
    host.script = said(identity(1, padding="x" * 5_000_000), identity(2))
    await reader.session()
    assert reader.seqs == [1, 2]


async def test_a_frame_that_cannot_be_read_is_dropped_and_the_next_one_is_taken(host: Host, reader: Reader) -> None:
    dropped = moved("ingester_dropped_total", source="firehose", reason="bad_cbor")
    unreadable = moved("ingester_frames_total", source="firehose", kind="unreadable")
    host.script = said(identity(1), b"\xff", identity(2)[:-1], b"", identity(3))
    await reader.session()
    assert (reader.seqs, dropped(), unreadable()) == ([1, 3], 3, 3)


async def test_text_is_not_expected_and_ignored(host: Host, reader: Reader) -> None:
    host.script = said("hello", identity(1))
    await reader.session()
    assert reader.seqs == [1]


async def test_the_event_at_the_cursor_may_come_again(
    host: Host, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    replayed = moved("ingester_dropped_total", source="firehose", reason="replayed")
    host.script = said(identity(7), identity(8))
    await reader.session(7)
    assert (reader.seqs, replayed()) == ([8], 1)
    assert "backwards" not in caplog.text


async def test_a_sequence_that_runs_backwards_is_dropped_and_complained_about_once(
    host: Host, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    replayed = moved("ingester_dropped_total", source="firehose", reason="replayed")
    host.script = said(identity(8), identity(8), identity(3), identity(9))
    await reader.session(7)
    assert (reader.seqs, replayed()) == ([8, 9], 2)
    assert caplog.text.count("runs backwards") == 1


async def test_a_cursor_of_the_future_is_kept_and_tried_again_later(
    host: Host, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    host.script = said(error("FutureCursor"), identity(1))
    assert await reader.session(7) >= 60
    assert await reader.session(7) >= 60
    assert reader.seqs == []
    assert [record.levelno for record in caplog.records if "sluice cursor set HOST 0 --force" in record.message] == [
        logging.ERROR
    ]


async def test_a_consumer_too_slow_tries_again_soon(host: Host, reader: Reader) -> None:
    errors = moved("ingester_errors_by_reason_total", source="firehose", reason="consumer_too_slow")
    host.script = said(identity(1), error("ConsumerTooSlow"), identity(2))
    assert await reader.session() < 1
    assert (reader.seqs, errors()) == ([1], 1)


async def test_an_error_of_another_name_ends_the_connection_and_no_more(host: Host, reader: Reader) -> None:
    errors = moved("ingester_errors_by_reason_total", source="firehose", reason="error_frame")
    host.script = said(error("SomethingNew"))
    await reader.session()
    assert errors() == 1


async def test_an_outdated_cursor_is_a_loss_that_is_told(
    host: Host, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    notice = encode({"op": 1, "t": "#info"}) + encode({"name": "OutdatedCursor"})
    host.script = said(notice, identity(90))
    await reader.session(7)
    assert reader.seqs == [90]
    assert "no longer has the events after our cursor" in caplog.text


async def test_a_silent_connection_is_ended(http: ClientSession, host: Host) -> None:
    async def silence(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(identity(1))
        async for _ in socket:
            pass

    host.script = silence
    reader = Reader(http, host.url, idle_seconds=0.2)
    idle = moved("ingester_errors_by_reason_total", source="firehose", reason="idle")
    await reader.session()
    assert (reader.seqs, idle()) == ([1], 1)


async def test_a_connection_that_waits_for_us_is_not_silent(http: ClientSession, host: Host) -> None:
    reader, released = Reader(http, host.url, idle_seconds=0.05), asyncio.Event()
    pings = 0

    async def count_pings(socket: web.WebSocketResponse) -> None:
        nonlocal pings
        await socket.send_bytes(identity(1))
        while pings < 10:
            await socket.receive()
            pings += 1
        released.set()
        await socket.send_bytes(identity(2))

    async def wait_for_room(result: FrameResult) -> None:
        await released.wait()
        reader.seqs.append(result.seq)

    host.script = count_pings
    await reader.session(deliver=wait_for_room)
    assert reader.seqs == [1, 2]


async def test_a_refusal_is_honoured_for_as_long_as_it_says(host: Host, reader: Reader) -> None:
    host.refusal = web.Response(status=429, headers={"Retry-After": "17"})
    assert await reader.session() >= 17


async def test_a_host_that_is_not_there_is_tried_again_and_complained_about_once(
    http: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader(http, "ws://127.0.0.1:1/subscribe")
    waits = [await reader.session() for _ in range(3)]
    assert all(wait < 60 for wait in waits)
    assert caplog.text.count("not connected, trying again") == 1


async def test_trouble_that_comes_back_is_told_again(
    host: Host, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    host.script = said(identity(1))
    await reader.session(0)
    host.script = said(identity(2))
    await reader.session(1)
    assert caplog.text.count("not connected, trying again") == 2


async def test_a_frame_beyond_every_limit_is_stepped_over_after_a_few_tries(host: Host, reader: Reader) -> None:
    host.has({8: identity(8), 9: TOO_LARGE, 10: identity(10)})
    await reader.session(7)
    for _ in range(TRIES_AT_A_FRAME - 1):
        assert reader.seqs == [8]
        await reader.session(8)
    assert (reader.seqs, reader.dropped[-1]) == ([8, 9], {"oversized_frame": 1})
    await reader.session(9)
    assert reader.seqs == [8, 9, 10]


@pytest.mark.parametrize("seq", [10, 11, 900, 12_345_678])
async def test_the_number_of_a_frame_that_is_too_large_is_found_however_far_it_jumps(
    host: Host, reader: Reader, seq: int
) -> None:
    host.has({8: identity(8), seq: TOO_LARGE, seq + 1: identity(seq + 1), seq + 90: identity(seq + 90)})
    for _ in range(TRIES_AT_A_FRAME):
        await reader.session(8)
    assert reader.seqs == [seq]
    assert len(host.cursors) <= TRIES_AT_A_FRAME + 2 * (seq - 8).bit_length()
    await reader.session(seq)
    assert reader.seqs == [seq, seq + 1, seq + 90]


@pytest.mark.parametrize("says", [[], [error("ConsumerTooSlow")]])
async def test_the_newest_frame_of_all_is_stepped_over_once_another_follows(
    host: Host, reader: Reader, says: list[bytes]
) -> None:
    host.has({8: identity(8), 30: TOO_LARGE}, at_the_end=says)
    for _ in range(TRIES_AT_A_FRAME):
        await reader.session(8)
    assert (reader.seqs, host.cursors[-1]) == ([], 30)
    host.has({8: identity(8), 30: TOO_LARGE, 50: identity(50)})
    await reader.session(8)
    assert reader.seqs == [30]


async def test_a_host_that_has_nothing_but_frames_that_are_too_large_moves_nothing(host: Host, reader: Reader) -> None:
    host.script = said(TOO_LARGE)
    for _ in range(TRIES_AT_A_FRAME):
        await reader.session(8)
    assert reader.seqs == []
    assert len(host.cursors) < TRIES_AT_A_FRAME + 60


async def test_a_frame_that_is_too_large_is_a_gap_before_it_is_stepped_over(
    redis: Redis, http: ClientSession, host: Host
) -> None:
    ledger = GapLedger(redis)
    gaps = GapWatch(ledger, FIREHOSE.name, "here", seq_jump=1000)
    reader, known = Reader(http, host.url, gaps=gaps), []

    async def deliver(result: FrameResult) -> None:
        known.append((result.seq, [(gap.kind, gap.after, gap.before) for gap in await ledger.all()]))

    host.has({20: TOO_LARGE, 21: identity(21)})
    for _ in range(TRIES_AT_A_FRAME):
        await reader.session(8, deliver)
    await reader.session(20, deliver)
    assert known == [(20, [("oversized_frame", 8, None)]), (21, [("oversized_frame", 8, 21)])]


async def test_a_host_that_only_closes_is_not_stepped_through(host: Host, reader: Reader) -> None:
    for _ in range(TRIES_AT_A_FRAME + 1):
        await reader.session(8)
    assert (reader.seqs, host.cursors) == ([], [8] * (TRIES_AT_A_FRAME + 1))
