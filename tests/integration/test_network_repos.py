"""The recorded network answers as a PDS and a PLC directory do, fails when told to, and is a process too."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import ClientSession
from yarl import URL

from tests.recorded_network import SUBSCRIBE, StartNetwork, answer, received
from tests.waiting import until

ROOT = Path(__file__).parents[2]
DEACTIVATED, TAKENDOWN = "did:plc:in7le3rvb7mhuu4xpbxir773", "did:plc:adw7puadin4dgzb4envmaogp"


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
    await until(lambda: served.requests["/xrpc/com.atproto.sync.getRepo"] == 1)
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
