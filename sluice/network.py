"""A recorded network served on loopback: relay, PDS, PLC directory and labeler behind one address.

Also a process of its own: python -m sluice.network RECORDING [--port N] [--pace FRAMES_A_SECOND]
"""

import argparse
import asyncio
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from aiohttp.typedefs import Handler

from common.daemon import entrypoint, run_daemon
from sluice.feed import Feed
from sluice.lists import Lists, xrpc_error
from sluice.recording import RecordedRepo, Recording

RECORDED_HOST = "http://localhost:"  # what every service of a recording is called in its DID documents
SHUTDOWN_SECONDS = 0.1
INACTIVE = {"takendown": "RepoTakendown", "suspended": "RepoSuspended", "deactivated": "RepoDeactivated"}


@dataclass
class Faults:
    """What goes wrong over HTTP; set and healed while the network runs. Those of the streams: feed.faults."""

    statuses: dict[str, int] = field(default_factory=dict)  # part of a path with its query -> the answer's status
    serving_repos: asyncio.Event = field(default_factory=asyncio.Event)  # while cleared, getRepo does not answer

    def __post_init__(self) -> None:
        self.serving_repos.set()

    def status_for(self, path: str) -> int | None:
        return next((status for part, status in self.statuses.items() if part in path), None)


class RecordedNetwork:
    """An async context. `firehose` and `labels` are the streams, `requests` counts the HTTP paths asked for."""

    def __init__(self, recording: Recording, *, pace: float | None = None, port: int = 0) -> None:
        self.recording = recording
        self.firehose = Feed(recording.frames, pace)
        self.labels = Feed(recording.labels, pace)
        self.lists = Lists(recording)
        self.faults = Faults()
        self.requests: Counter[str] = Counter()
        self.lives_at = ""  # what DID documents call its services, if not by its own address
        self.documents = dict(recording.dids)  # what the directory says, also of accounts that are not in the recording
        self._repos = {repo.did: repo for repo in recording.repos}
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        self._port = port

    async def __aenter__(self) -> "RecordedNetwork":
        """Raises OSError if a given port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._count_and_fail])
        sync, routes = "/xrpc/com.atproto.sync", app.router
        routes.add_get(f"{sync}.subscribeRepos", self.firehose.serve)
        routes.add_get("/xrpc/com.atproto.label.subscribeLabels", self.labels.serve)
        routes.add_get(f"{sync}.getRepo", self._get_repo)
        routes.add_get(f"{sync}.getLatestCommit", self._get_latest_commit)
        routes.add_get(f"{sync}.getRepoStatus", self._get_repo_status)
        routes.add_get(f"{sync}.listRepos", self.lists.repos)
        routes.add_get(f"{sync}.listReposByCollection", self.lists.repos_by_collection)
        routes.add_get(f"{sync}.listHosts", self.lists.hosts)
        routes.add_get("/xrpc/com.atproto.identity.resolveHandle", self._resolve_handle)
        routes.add_get("/xrpc/com.atproto.server.describeServer", self._describe_server)
        routes.add_get("/xrpc/_health", self._health)
        routes.add_get("/xrpc/{method}", self._unknown_method)
        routes.add_get("/.well-known/atproto-did", self._well_known_did)
        routes.add_get("/export", self._plc_export)
        routes.add_get("/{did:did:[^/]+}", self._plc_document)
        return app

    @web.middleware
    async def _count_and_fail(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests[request.path] += 1
        status = self.faults.status_for(unquote(request.path_qs))
        if status is None:
            return await handler(request)
        headers = {"Retry-After": "1"} if status in (429, 503) else None
        return web.json_response({"error": "Fault", "message": "on request"}, status=status, headers=headers)

    # the PDS

    async def _get_repo(self, request: web.Request) -> web.Response:
        repo = self._active_repo(request)
        await self.faults.serving_repos.wait()
        car = self.recording.car(repo.did)
        if car is None:
            message = f"The recording holds no repo of {repo.did}"
            raise xrpc_error("MethodNotImplemented", message, web.HTTPNotImplemented)
        return web.Response(body=car, content_type="application/vnd.ipld.car")

    async def _get_latest_commit(self, request: web.Request) -> web.Response:
        repo = self._active_repo(request)
        return web.json_response({"cid": repo.head, "rev": repo.rev})

    async def _get_repo_status(self, request: web.Request) -> web.Response:
        repo = self._known_repo(request)
        found = {"did": repo.did, "active": repo.active, "status": repo.status, "rev": repo.rev}
        absent = {"status"} if repo.active else {"rev"}
        return web.json_response({name: value for name, value in found.items() if name not in absent})

    async def _describe_server(self, _: web.Request) -> web.Response:
        return web.json_response({"did": "did:web:localhost", "availableUserDomains": [".test"]})

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"version": f"recording {self.recording.name}"})

    async def _unknown_method(self, request: web.Request) -> web.Response:
        raise xrpc_error("MethodNotImplemented", request.match_info["method"], web.HTTPNotImplemented)

    def _known_repo(self, request: web.Request) -> RecordedRepo:
        did = request.query.get("did", "")
        if did not in self._repos:
            raise xrpc_error("RepoNotFound", f"Could not find repo for DID: {did}")
        return self._repos[did]

    def _active_repo(self, request: web.Request) -> RecordedRepo:
        repo = self._known_repo(request)
        if not repo.active:
            name = INACTIVE.get(repo.status or "", "RepoNotFound")
            raise xrpc_error(name, f"Repo is {repo.status}: {repo.did}")
        return repo

    # handles

    async def _resolve_handle(self, request: web.Request) -> web.Response:
        did = self.recording.handles.get(request.query.get("handle", "").lower())
        if did is None:
            raise xrpc_error("HandleNotFound", "Unable to resolve handle")
        return web.json_response({"did": did})

    async def _well_known_did(self, request: web.Request) -> web.Response:
        did = self.recording.handles.get(request.host.partition(":")[0].lower())
        return web.Response(text=did) if did else web.Response(text="User not found", status=404)

    # the PLC directory

    async def _plc_document(self, request: web.Request) -> web.Response:
        did = request.match_info["did"]
        document = self.documents.get(did)
        if document is None:
            return web.json_response({"message": f"DID not registered: {did}"}, status=404)
        services = [self._here(service) for service in document.get("service", ())]
        return web.json_response({**document, "service": services}, content_type="application/did+ld+json")

    def _here(self, service: dict[str, Any]) -> dict[str, Any]:
        recorded = service["serviceEndpoint"].startswith(RECORDED_HOST)
        return {**service, "serviceEndpoint": self.lives_at or self.url} if recorded else service

    async def _plc_export(self, _: web.Request) -> web.Response:
        """As recorded: the operations are signed, so nothing in them can be changed."""
        return web.Response(body=self.recording.plc, content_type="application/jsonlines")


async def main(arguments: argparse.Namespace) -> None:
    with Recording.open(arguments.recording) as recording:
        async with RecordedNetwork(recording, pace=arguments.pace, port=arguments.port) as network:
            sys.stdout.write(f"{recording.name}: {len(recording.frames)} frames at {network.url}\n")
            sys.stdout.flush()
            await run_daemon(_until_told_to_stop, grace_seconds=1)


async def _until_told_to_stop(stop: asyncio.Event) -> None:
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve a recorded network.")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--pace", type=float)
    arguments = parser.parse_args()
    entrypoint(lambda: main(arguments))
