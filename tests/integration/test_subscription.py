"""One subscription against hosts that behave, and hosts that do not: over a real websocket, on loopback."""

import asyncio
import logging

import pytest
from aiohttp import ClientSession, web

from common.dag_cbor import encode
from ingester.framing import FrameResult
from tests.samples import moved
from tests.websocket_hosts import Host, Reader, error, identity, said


async def test_frames_after_the_cursor_are_delivered_in_order(relay: Host, reader: Reader) -> None:
    relay.script = said(identity(8), identity(9), identity(12))
    assert await reader.session(7) > 0
    assert (relay.cursors, reader.seqs) == ([7], [8, 9, 12])


async def test_without_a_cursor_the_oldest_event_is_asked_for(relay: Host, reader: Reader) -> None:
    await reader.session(0)
    assert relay.cursors == [0]


async def test_a_frame_of_five_megabytes_comes_through(relay: Host, reader: Reader) -> None:
    relay.script = said(identity(1, padding="x" * 5_000_000), identity(2))
    await reader.session()
    assert reader.seqs == [1, 2]


async def test_a_frame_that_cannot_be_read_is_dropped_and_the_next_one_is_taken(relay: Host, reader: Reader) -> None:
    dropped = moved("ingester_dropped_total", source="firehose", reason="bad_cbor")
    unreadable = moved("ingester_frames_total", source="firehose", kind="unreadable")
    relay.script = said(identity(1), b"\xff", identity(2)[:-1], b"", identity(3))
    await reader.session()
    assert (reader.seqs, dropped(), unreadable()) == ([1, 3], 3, 3)


async def test_text_is_not_expected_and_ignored(relay: Host, reader: Reader) -> None:
    relay.script = said("hello", identity(1))
    await reader.session()
    assert reader.seqs == [1]


async def test_the_event_at_the_cursor_may_come_again(
    relay: Host, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    replayed = moved("ingester_dropped_total", source="firehose", reason="replayed")
    relay.script = said(identity(7), identity(8))
    await reader.session(7)
    assert (reader.seqs, replayed()) == ([8], 1)
    assert "backwards" not in caplog.text


async def test_a_sequence_that_runs_backwards_is_dropped_and_complained_about_once(
    relay: Host, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    replayed = moved("ingester_dropped_total", source="firehose", reason="replayed")
    relay.script = said(identity(8), identity(8), identity(3), identity(9))
    await reader.session(7)
    assert (reader.seqs, replayed()) == ([8, 9], 2)
    assert caplog.text.count("runs backwards") == 1


async def test_a_cursor_of_the_future_is_kept_and_tried_again_later(
    relay: Host, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    relay.script = said(error("FutureCursor"), identity(1))
    assert await reader.session(7) >= 60
    assert await reader.session(7) >= 60
    assert reader.seqs == []
    assert [record.levelno for record in caplog.records if "sluice cursor set HOST 0 --force" in record.message] == [
        logging.ERROR
    ]


async def test_a_consumer_too_slow_tries_again_soon(relay: Host, reader: Reader) -> None:
    errors = moved("ingester_errors_by_reason_total", source="firehose", reason="consumer_too_slow")
    relay.script = said(identity(1), error("ConsumerTooSlow"), identity(2))
    assert await reader.session() < 1
    assert (reader.seqs, errors()) == ([1], 1)


async def test_an_error_of_another_name_ends_the_connection_and_no_more(relay: Host, reader: Reader) -> None:
    errors = moved("ingester_errors_by_reason_total", source="firehose", reason="error_frame")
    relay.script = said(error("SomethingNew"))
    await reader.session()
    assert errors() == 1


@pytest.mark.parametrize("cursor", [7, 0])
async def test_an_outdated_cursor_is_a_loss_that_is_told_unless_there_was_none(
    relay: Host, reader: Reader, cursor: int, caplog: pytest.LogCaptureFixture
) -> None:
    notice = encode({"op": 1, "t": "#info"}) + encode({"name": "OutdatedCursor"})
    relay.script = said(notice, identity(90))
    await reader.session(cursor)
    assert reader.seqs == [90]
    assert ("no longer has the events after our cursor" in caplog.text) == bool(cursor)


async def test_a_silent_connection_is_ended(http: ClientSession, relay: Host) -> None:
    async def silence(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(identity(1))
        async for _ in socket:
            pass

    relay.script = silence
    reader = Reader(http, relay.url, idle_seconds=0.2)
    idle = moved("ingester_errors_by_reason_total", source="firehose", reason="idle")
    await reader.session()
    assert (reader.seqs, idle()) == ([1], 1)


async def test_a_connection_that_says_something_now_and_then_is_not_silent(http: ClientSession, relay: Host) -> None:
    async def a_frame_for_each_ping(socket: web.WebSocketResponse) -> None:
        for seq in range(1, 9):
            await socket.receive()
            await socket.send_bytes(identity(seq))

    relay.script = a_frame_for_each_ping
    reader = Reader(http, relay.url, idle_seconds=0.3)
    await reader.session()
    assert reader.seqs == [*range(1, 9)]


async def test_a_connection_that_waits_for_us_is_not_silent(http: ClientSession, relay: Host) -> None:
    reader, released = Reader(http, relay.url, idle_seconds=0.05), asyncio.Event()
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

    relay.script = count_pings
    await reader.session(deliver=wait_for_room)
    assert reader.seqs == [1, 2]


async def test_a_refusal_is_honoured_for_as_long_as_it_says(relay: Host, reader: Reader) -> None:
    relay.refusal = web.Response(status=429, headers={"Retry-After": "17"})
    assert await reader.session() >= 17


async def test_a_host_that_is_not_there_is_tried_again_and_complained_about_once(
    http: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader(http, "ws://127.0.0.1:1/subscribe")
    waits = [await reader.session() for _ in range(3)]
    assert all(wait < 60 for wait in waits)
    assert caplog.text.count("not connected, trying again") == 1


async def test_trouble_that_comes_back_is_told_again(
    relay: Host, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    relay.script = said(identity(1))
    await reader.session(0)
    relay.script = said(identity(2))
    await reader.session(1)
    assert caplog.text.count("not connected, trying again") == 2
