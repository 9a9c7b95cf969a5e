"""`sluice backfill` and `resync` as an operator runs them, against a Redis and hosts on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from backfiller.settings import Settings
from sluice import backfill_queue, repo_sources
from sluice.backfill_queue import BackfillQueue, Queued
from sluice.repo_sources import DidFile
from tests.backfilling import (
    HIGH,
    INPUT,
    of_an_operator,
)
from tests.commands import sluice
from tests.waiting import until

DIDS = [f"did:plc:aaaaaaaaaaaaaaaaaaaaaaa{letter}" for letter in "abcdefghijklm"]


async def jobs(redis: Redis, stream: str) -> list[dict[str, Any]]:
    return [json.loads(fields[b"repo"]) for _, fields in await redis.xrange(stream)]


async def test_named_repos_are_urgent_and_a_file_is_not_unless_it_is_asked_for(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    here = of_an_operator(redis_url)
    ended = await sluice("backfill", *DIDS[:2], DIDS[0], folder=tmp_path, environ=here)
    assert (ended.code, ended.error) == (0, "")
    assert [(job["did"], job["priority"], job["reason"], job["rev"]) for job in await jobs(redis, HIGH)] == [
        (did, "high", "operator", "") for did in DIDS[:2]
    ]
    (tmp_path / "dids.csv").write_text("did,handle\n" + "\n".join(f"{did},x.test" for did in DIDS) + "\nnonsense\n")
    ended = await sluice("backfill", "--file", "dids.csv", folder=tmp_path, environ=here)
    assert ended.code == 0
    assert "13 jobs are on repo_backfill, 2 lines or rows are no DID" in ended.out
    assert [(job["did"], job["priority"]) for job in await jobs(redis, INPUT)] == [(did, "normal") for did in DIDS]
    ended = await sluice("backfill", "--file", "dids.csv", "--priority", "high", folder=tmp_path, environ=here)
    assert len(await jobs(redis, HIGH)) == 2 + len(DIDS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name DIDs, or one of --file"),
        ([DIDS[0], "--all"], "name DIDs, or one of --file"),
        (["alice.test"], "'alice.test' is no DID"),
        ([DIDS[0], "--priority", "highest"], "choose high or normal"),
        (["--file", "nowhere.csv"], "No such file"),
        (["--collection", "posts"], "is no NSID"),
        (["--all", "--wait"], "--wait needs DIDs"),
        (["--car", "nowhere.car"], "is no file"),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_queues_nothing(
    arguments: list[str], complaint: str, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    ended = await sluice("backfill", *arguments, folder=tmp_path, environ=of_an_operator(redis_url))
    assert ended.code == 2
    assert complaint in ended.error
    assert await redis.keys("*") == []


@dataclass
class Lists:
    """A relay that lists DIDS, four to a page, and fails the third page as often as it is told."""

    url: str = ""
    failures: int = 0
    queries: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        start = int(request.query.get("cursor", "0"))
        if start == 8 and self.failures:
            self.failures -= 1
            return web.Response(status=400)
        rows = [{"did": did, "rev": "3mfxgt2k7ircm", "head": "x"} for did in DIDS[start : start + 4]]
        more = {"cursor": str(start + 4)} if start + 4 < len(DIDS) else {}
        return web.json_response({"repos": [*rows, {"did": "nonsense"}], **more})


@asynccontextmanager
async def lists(failures: int = 0) -> AsyncIterator[Lists]:
    here = Lists(failures=failures)
    app = web.Application()
    for name in ("listRepos", "listReposByCollection"):
        app.router.add_get(f"/xrpc/com.atproto.sync.{name}", here.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    here.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield here
    finally:
        await runner.cleanup()


async def test_an_interrupted_list_goes_on_where_it_was_and_then_begins_anew(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    async with lists(failures=1) as relay:
        here = of_an_operator(redis_url, relay.url)
        ended = await sluice("backfill", "--pds", relay.url, folder=tmp_path, environ=here)
        assert ended.code == 1
        assert "the same command goes on where this one stopped" in ended.error
        assert [job["did"] for job in await jobs(redis, INPUT)] == DIDS[:8]
        ended = await sluice("backfill", "--pds", relay.url, folder=tmp_path, environ=here)
        assert ended.code == 0
        assert "going on after 8" in ended.error
        queued = await jobs(redis, INPUT)
        assert [job["did"] for job in queued] == DIDS
        assert {job["rev"] for job in queued} == {"3mfxgt2k7ircm"}
        await redis.delete(INPUT)
        ended = await sluice("backfill", "--all", "--relay", relay.url, "--force", folder=tmp_path, environ=here)
        assert "13 jobs are on repo_backfill, 4 lines or rows are no DID" in ended.out
        assert {job["rev"] for job in await jobs(redis, INPUT)} == {""}
        assert not [key for key in await redis.keys("*:asked:*")]


async def test_a_queue_that_is_full_says_once_that_it_waits(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_queue, "QUEUE_HIGH_WATER", 2)
    monkeypatch.setattr(repo_sources, "PAGE", 2)
    (tmp_path / "dids").write_text("\n".join(DIDS[:6]))
    told: list[str] = []
    settings = Settings(consumer="none")
    queue = BackfillQueue(redis, settings, "normal", reason="operator", force=False, on_full=told.append)
    async with asyncio.TaskGroup() as group:
        group.create_task(queue.put_all(DidFile(tmp_path / "dids"), Queued(), lambda: None))
        for _ in range(3):
            await until(lambda: redis.xlen(INPUT))
            await redis.delete(INPUT)
    assert told == [INPUT]


async def test_a_collection_is_asked_of_the_relay_by_its_name(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    async with lists() as relay:
        wanted = ("backfill", "--collection", "app.bsky.feed.generator", "--relay", relay.url)
        ended = await sluice(*wanted, folder=tmp_path, environ=of_an_operator(redis_url, relay.url))
    assert ended.code == 0
    assert {query["collection"] for query in relay.queries} == {"app.bsky.feed.generator"}
    assert [job["did"] for job in await jobs(redis, INPUT)] == DIDS


async def test_a_redis_that_does_not_answer_is_said_so(tmp_path: Path) -> None:
    for command in (["backfill", DIDS[0]], ["status", "backfill"], ["dead", "list", "--kind", "repo"]):
        ended = await sluice(*command, folder=tmp_path, environ={"REDIS_URL": "redis://127.0.0.1:9"})
        assert ended.code == 2
        assert "redis does not answer" in ended.error
