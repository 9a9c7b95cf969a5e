"""The recorded network answers as a relay, a PDS, a PLC directory and a labeler do, and fails when told to."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import libipld
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from yarl import URL

from sluice.feed import error_frame, info_frame
from sluice.network import RecordedNetwork

StartNetwork = Callable[..., Awaitable[RecordedNetwork]]
ROOT = Path(__file__).parents[2]
SUBSCRIBE = "/xrpc/com.atproto.sync.subscribeRepos"
MAX_FRAME_BYTES = 8 << 20
DEACTIVATED, TAKENDOWN = "did:plc:in7le3rvb7mhuu4xpbxir773", "did:plc:adw7puadin4dgzb4envmaogp"


async def received(socket: ClientWebSocketResponse, count: int) -> list[bytes]:
    async with asyncio.timeout(10):
        return [await socket.receive_bytes() for _ in range(count)]


async def is_closed(socket: ClientWebSocketResponse) -> bool:
    async with asyncio.timeout(10):
        return (await socket.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)


def frame(**body: Any) -> bytes:
    header, content = libipld.encode_dag_cbor({"op": 1, "t": "#commit"}), libipld.encode_dag_cbor(body)
    return bytes(header + content)


async def eventually(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_true():  # noqa: ASYNC110 - what is awaited happens in the server, which knows no event of ours
            await asyncio.sleep(0.01)


async def answer(http: ClientSession, network: RecordedNetwork, method: str, **query: str) -> tuple[int, Any]:
    async with http.get(f"{network.url}/xrpc/{method}", params=query) as response:
        return response.status, await response.json()


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
        served.firehose.resume()
        assert len(await received(socket, 60)) == 60


async def test_a_pace_is_kept(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic", pace=200)
    clock = asyncio.get_running_loop().time
    async with http.ws_connect(f"{served.url}{SUBSCRIBE}?cursor=0") as socket:
        started = clock()
        await received(socket, 60)
        assert 0.25 < clock() - started < 3


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


async def test_did_documents_name_this_server_as_every_service(network: StartNetwork, http: ClientSession) -> None:
    served = await network("full")
    for did, recorded in served.recording.dids.items():
        async with http.get(URL(f"{served.url}/{quote(did)}", encoded=True)) as response:
            document = await response.json(content_type=None)
        assert document | {"service": 0} == recorded | {"service": 0}
        assert len(document["service"]) == len(recorded["service"])
        assert all(service["serviceEndpoint"] == served.url for service in document["service"])


async def test_an_unknown_did_is_not_found(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    async with http.get(f"{served.url}/did:plc:{'a' * 24}") as response:
        assert response.status == 404


async def test_the_plc_directory_exports_its_operations(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    async with http.get(f"{served.url}/export") as response:
        assert await response.read() == served.recording.plc


@pytest.mark.parametrize("limit", [1, 7, 20, 1000])
async def test_pages_of_repos_hold_each_repo_once(network: StartNetwork, http: ClientSession, limit: int) -> None:
    served = await network("full")
    dids: list[str] = []
    query = {"limit": str(limit)}
    while True:
        status, page = await answer(http, served, "com.atproto.sync.listRepos", **query)
        assert status == 200
        assert 0 < len(page["repos"]) <= limit
        dids += [repo["did"] for repo in page["repos"]]
        if "cursor" not in page:
            break
        query["cursor"] = page["cursor"]
    assert dids == [repo.did for repo in served.recording.repos]


async def test_a_listed_repo_says_why_it_is_not_active(network: StartNetwork, http: ClientSession) -> None:
    served = await network("full")
    _, page = await answer(http, served, "com.atproto.sync.listRepos")
    assert {repo["did"]: repo.get("status") for repo in page["repos"] if not repo["active"]} == {
        DEACTIVATED: "deactivated",
        TAKENDOWN: "takendown",
    }


async def test_a_repo_is_served_whole(network: StartNetwork, http: ClientSession) -> None:
    served = await network("full")
    repo = served.recording.repos[2]
    async with http.get(f"{served.url}/xrpc/com.atproto.sync.getRepo", params={"did": repo.did}) as response:
        assert response.content_type == "application/vnd.ipld.car"
        assert await response.read() == served.recording.car(repo.did)
    latest = await answer(http, served, "com.atproto.sync.getLatestCommit", did=repo.did)
    assert latest == (200, {"cid": repo.head, "rev": repo.rev})
    status = await answer(http, served, "com.atproto.sync.getRepoStatus", did=repo.did)
    assert status == (200, {"did": repo.did, "active": True, "rev": repo.rev})


@pytest.mark.parametrize(
    ("did", "error"),
    [(DEACTIVATED, "RepoDeactivated"), (TAKENDOWN, "RepoTakendown"), ("did:plc:unknown", "RepoNotFound")],
)
@pytest.mark.parametrize("method", ["getRepo", "getLatestCommit"])
async def test_a_repo_that_is_not_served_says_why(
    network: StartNetwork, http: ClientSession, method: str, did: str, error: str
) -> None:
    status, body = await answer(http, await network("full"), f"com.atproto.sync.{method}", did=did)
    assert (status, body["error"]) == (400, error)


async def test_handles_resolve_by_both_ways(network: StartNetwork, http: ClientSession) -> None:
    served = await network("full")
    for handle, did in served.recording.handles.items():
        status, body = await answer(http, served, "com.atproto.identity.resolveHandle", handle=handle)
        assert (status, body.get("did")) == ((400, None) if did is None else (200, did))
        headers = {"Host": f"{handle}:443"}
        async with http.get(f"{served.url}/.well-known/atproto-did", headers=headers) as response:
            assert (response.status, await response.text()) == (200, did) or (did, response.status) == (None, 404)


async def test_unknown_methods_are_not_implemented(network: StartNetwork, http: ClientSession) -> None:
    status, body = await answer(http, await network("basic"), "com.example.unknown")
    assert (status, body["error"]) == (501, "MethodNotImplemented")


async def test_a_path_fails_with_the_status_it_is_given(network: StartNetwork, http: ClientSession) -> None:
    served = await network("full")
    did = served.recording.repos[0].did
    served.faults.statuses[f"getRepo?did={did}"] = 429
    asked = URL(f"{served.url}/xrpc/com.atproto.sync.getRepo?did={quote(did)}", encoded=True)
    async with http.get(asked) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "1")
    served.faults.statuses.clear()
    async with http.get(asked) as response:
        assert response.status == 200
    assert served.requests["/xrpc/com.atproto.sync.getRepo"] == 2


async def test_repos_can_be_held_back(network: StartNetwork, http: ClientSession) -> None:
    served = await network("basic")
    served.faults.serving_repos.clear()
    did = served.recording.repos[0].did
    asked = asyncio.create_task(answer_bytes(http, f"{served.url}/xrpc/com.atproto.sync.getRepo?did={did}"))
    await eventually(lambda: served.requests["/xrpc/com.atproto.sync.getRepo"] == 1)
    status, _ = await answer(http, served, "_health")
    assert status == 200
    assert not asked.done()
    served.faults.serving_repos.set()
    assert await asked == served.recording.car(did)


async def answer_bytes(http: ClientSession, url: str) -> bytes:
    async with http.get(url) as response:
        return await response.read()


async def test_it_is_also_a_process_that_stops_when_told(http: ClientSession) -> None:
    recording = ROOT / "tests/data/recordings/basic.tar.zst"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sluice.network", str(recording)), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).split()[-1].decode()
        async with http.ws_connect(f"{url}{SUBSCRIBE}?cursor=0") as socket:
            assert len(await received(socket, 60)) == 60
        process.send_signal(signal.SIGTERM)
    finally:
        async with asyncio.timeout(10):
            code = await process.wait()
    assert code == 0


def test_as_a_process_it_refuses_what_is_no_recording_in_one_line(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "sluice.network", str(tmp_path / "absent")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("cannot start: cannot read the recording")
