"""The recorded network answers as a relay and a labeler do, holds back, and fails when told to."""

import asyncio
from typing import Any

import libipld
import pytest
from aiohttp import ClientSession

from sluice.feed import error_frame, info_frame
from tests.recorded_network import SUBSCRIBE, StartNetwork, answer, is_closed, received

MAX_FRAME_BYTES = 8 << 20


def frame(**body: Any) -> bytes:
    header, content = libipld.encode_dag_cbor({"op": 1, "t": "#commit"}), libipld.encode_dag_cbor(body)
    return bytes(header + content)


async def test_frames_after_the_cursor_come_unchanged(network: StartNetwork, http: ClientSession) -> None:
    served = await network("full")
    frames = list(served.recording.frames)
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor=0") as socket:
        assert await received(socket, 414) == frames
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor=410") as socket:
        assert await received(socket, 4) == frames[410:]
        served.firehose.append(frames[0])
        assert await received(socket, 1) == frames[:1]


async def test_without_a_cursor_only_new_frames_come(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}") as socket:
        served.firehose.append(info_frame("OutdatedCursor"))
        assert await received(socket, 1) == [info_frame("OutdatedCursor")]


async def test_labels_are_a_stream_of_their_own(network: StartNetwork, http: ClientSession) -> None:
    served = await network("full")
    async with http.ws_connect(f"{served.url}/xrpc/com.atproto.label.subscribeLabels?cursor=0") as socket:
        assert await received(socket, 5) == list(served.recording.labels)


async def test_a_cursor_from_the_future_is_refused(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor=61") as socket:
        header, body = libipld.decode_dag_cbor_multi(await socket.receive_bytes())
        assert (header, body["error"]) == ({"op": -1}, "FutureCursor")
        assert await is_closed(socket)


async def test_a_cursor_that_is_no_number_is_a_bad_request(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    status, body = await answer(http, served, "com.atproto.sync.subscribeRepos", cursor="-1")
    assert (status, body["error"]) == (400, "InvalidRequest")


async def test_frames_of_five_megabytes_pass(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    large = frame(seq=61, blocks=bytes(5 << 20))
    served.firehose.append(large)
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor=60", max_msg_size=MAX_FRAME_BYTES) as socket:
        assert await received(socket, 1) == [large]


async def test_a_reader_that_does_not_read_holds_the_sender_back(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    for seq in range(61, 101):
        served.firehose.append(frame(seq=seq, blocks=bytes(1 << 20)))
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor=0", max_msg_size=MAX_FRAME_BYTES) as socket:
        await received(socket, 60)
        await answer(http, served, "_health")  # the server has had its turn
        assert served.firehose.sent < 100
        assert len(await received(socket, 40)) == 40


async def test_a_paused_stream_sends_nothing_until_it_is_resumed(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    served.firehose.pause()
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor=0") as socket:
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.05)
        served.firehose.resume(up_to=20)
        assert len(await received(socket, 20)) == 20
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.05)
        served.firehose.resume()
        assert len(await received(socket, 40)) == 40


async def test_a_pace_is_kept(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic", pace=200)
    clock = asyncio.get_running_loop().time
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor=0") as socket:
        started = clock()
        await received(socket, 60)
        assert clock() - started > 0.25


async def test_a_reader_that_is_cut_off_gets_everything_by_coming_back(
    network: StartNetwork, http: ClientSession
) -> None:
    served = await network("basic")
    served.firehose.faults.cut_after = 25
    frames: list[bytes] = []
    for expected in (25, 25, 10):
        async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor={len(frames)}") as socket:
            frames += await received(socket, expected)
            assert expected < 25 or await is_closed(socket)
    assert frames == list(served.recording.frames)


async def test_an_error_frame_can_be_all_that_comes(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    served.firehose.faults.opening = error_frame("ConsumerTooSlow")
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor=0") as socket:
        assert await socket.receive_bytes() == error_frame("ConsumerTooSlow")
        assert await is_closed(socket)


async def test_an_info_frame_can_come_first(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    served.firehose.faults.opening = info_frame("OutdatedCursor")
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor=0") as socket:
        assert (await received(socket, 61))[:1] == [info_frame("OutdatedCursor")]
