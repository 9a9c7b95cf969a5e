"""What a relay or PDS lists, in pages: the repos of a recording, those with records of a collection, and hosts."""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import libipld
from aiohttp import web

from sluice.recording import RecordedRepo, Recording


class Lists:
    """`known_hosts` are rows of listHosts, as a test wants them."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.known_hosts: list[dict[str, Any]] = []

    async def repos(self, request: web.Request) -> web.Response:
        return _page(request, "repos", [_listed(repo) for repo in self._recording.repos], most=1000)

    async def repos_by_collection(self, request: web.Request) -> web.Response:
        collection = request.query.get("collection", "")
        rows = [{"did": repo.did} for repo in self._recording.repos if (repo.did, collection) in self._collections]
        return _page(request, "repos", rows, most=2000)

    async def hosts(self, request: web.Request) -> web.Response:
        return _page(request, "hosts", self.known_hosts, most=1000)

    @cached_property
    def _collections(self) -> frozenset[tuple[str, str]]:
        """Every repo with every collection that it has ever written to."""
        return frozenset(_written(self._recording.frames))


def xrpc_error(name: str, message: str, kind: type[web.HTTPException] = web.HTTPBadRequest) -> web.HTTPException:
    return kind(text=json.dumps({"error": name, "message": message}), content_type="application/json")


def _page(request: web.Request, name: str, rows: Sequence[Any], *, most: int) -> web.Response:
    """`limit` rows (500) after `cursor`; the last page has no cursor."""
    try:
        start, limit = int(request.query.get("cursor") or 0), int(request.query.get("limit", 500))
    except ValueError:
        raise xrpc_error("InvalidRequest", "limit and cursor are numbers here") from None
    if start < 0 or not 1 <= limit <= most:
        raise xrpc_error("InvalidRequest", f"limit must be from 1 to {most}")
    answer: dict[str, Any] = {name: rows[start : start + limit]}
    if start + limit < len(rows):
        answer["cursor"] = str(start + limit)
    return web.json_response(answer)


def _listed(repo: RecordedRepo) -> dict[str, Any]:
    row = {"did": repo.did, "head": repo.head, "rev": repo.rev, "active": repo.active}
    return row if repo.status is None else {**row, "status": repo.status}


def _written(frames: Any) -> Iterator[tuple[str, str]]:
    for frame in frames:
        header, body = libipld.decode_dag_cbor_multi(frame)
        if header.get("t") == "#commit":
            yield from ((body["repo"], op["path"].partition("/")[0]) for op in body["ops"])
