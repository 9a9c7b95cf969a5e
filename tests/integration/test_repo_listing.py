"""A relay's list of repos, from its first page to its last, whatever the relay does on the way."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from common.backpressure import Room
from common.events import RepoJob
from common.outbound import Outbound
from common.streams import REPO_BACKFILL, StreamWriter
from ingester import relay_listing, repo_listing
from ingester.accounts import LISTING, Account
from ingester.cursors import LISTING_DONE, cursor_key
from ingester.gaps import GapLedger
from ingester.metrics import Listings
from ingester.pages import RepoPages
from ingester.relay_listing import RelayListing, listed_key
from ingester.repo_listing import LEAST_ROWS_OF_A_PAGE, Listed, RepoListing
from ingester.upstream import Upstream
from sluice.network import RecordedNetwork

StartNetwork = Callable[..., Awaitable[RecordedNetwork]]
DIDS = [f"did:plc:{letter * 24}" for letter in "abcdefgh"]


class Relay:
    """Answers listRepos with what `answer(cursor, limit)` says."""

    def __init__(self) -> None:
        self.answer: Callable[[str, int], Any] = rows(DIDS)
        self.asked: list[tuple[str, int]] = []
        self.paths: list[tuple[str, str | None]] = []
        self.before_answering: Callable[[str], Awaitable[None]] = nothing
        self.upstream = Upstream("", False, 0)

    async def serve(self, request: web.Request) -> web.Response:
        cursor, limit = request.query.get("cursor", ""), int(request.query["limit"])
        self.asked.append((cursor, limit))
        self.paths.append((request.path.rpartition(".")[2], request.query.get("collection")))
        await self.before_answering(cursor)
        answer = self.answer(cursor, limit)
        return answer if isinstance(answer, web.Response) else web.json_response(answer)


async def nothing(cursor: str) -> None:
    """The relay answers at once."""


def rows(dids: list[str], broken: int = -1) -> Callable[[str, int], Any]:
    """Pages whose cursors are numbers; each page that holds the row `broken` fails, as relays do."""

    def answer(cursor: str, limit: int) -> Any:
        start = int(cursor or 0)
        end = min(start + limit, len(dids))
        if start <= broken < end:
            return web.Response(status=500)
        page = {"repos": [{"did": did, "head": "bafy", "rev": "3k"} for did in dids[start:end]]}
        return page | ({"cursor": str(end)} if end < len(dids) else {})

    return answer


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    relay = Relay()
    app = web.Application()
    app.router.add_get("/xrpc/com.atproto.sync.listRepos", relay.serve)
    app.router.add_get("/xrpc/com.atproto.sync.listReposByCollection", relay.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    relay.upstream = Upstream(f"127.0.0.1:{port}", False, port)
    yield relay
    await runner.cleanup()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are shortened; what is waited for is as it is."""
    monkeypatch.setattr(repo_listing, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(relay_listing, "RECHECK_SECONDS", 0.05)


async def none(jobs: Sequence[RepoJob]) -> list[bool]:
    """Nothing is current."""
    return [False] * len(jobs)


@asynccontextmanager
async def one_listing(
    redis: Redis, upstream: Upstream, room: Room | None = None, collection: str = "", **listed: Any
) -> AsyncIterator[RepoListing]:
    room = room or Room(redis, REPO_BACKFILL, 100_000)
    async with Outbound(allow=[upstream.origin]) as outbound:
        yield RepoListing(
            redis,
            RepoPages(outbound, upstream.http_url, collection),
            Listed(
                **{"host": upstream.host, "key": cursor_key(REPO_BACKFILL, upstream.host), "are_current": none} | listed
            ),
            writer=StreamWriter(redis, REPO_BACKFILL, "repo", room),
            room=room,
            account=Account(LISTING),
            ledger=GapLedger(redis),
        )


@asynccontextmanager
async def listing(
    redis: Redis, upstream: Upstream, room: Room | None = None, *, repeat_seconds: float = 0, **listed: Any
) -> AsyncIterator[None]:
    """Listed by a service while it lasts."""
    stop, key = asyncio.Event(), cursor_key(REPO_BACKFILL, upstream.host)
    async with one_listing(redis, upstream, room, **listed) as pages, asyncio.TaskGroup() as tasks:
        show = partial(Listings(1).show, upstream.host)
        service = RelayListing(redis, pages, key=key, repeat_seconds=repeat_seconds, show_complete=show)
        tasks.create_task(service.run(stop))
        yield
        stop.set()


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - what is awaited happens in Redis, which knows no event of ours
            await asyncio.sleep(0.01)


async def until_done(redis: Redis, upstream: Upstream) -> None:
    async def is_done() -> bool:
        return await redis.get(cursor_key(REPO_BACKFILL, upstream.host)) == LISTING_DONE.encode()

    await eventually(is_done)


async def shows_complete() -> bool:
    return REGISTRY.get_sample_value("ingester_backfill_complete") == 1


async def jobs(redis: Redis) -> list[dict[str, Any]]:
    entries: Any = await redis.xrange(REPO_BACKFILL)
    return [json.loads(fields[b"repo"]) for _, fields in entries]


async def dids(redis: Redis) -> list[str]:
    return [job["did"] for job in await jobs(redis)]


def moved(name: str, **labels: str) -> Callable[[], float]:
    """How far a metric has moved since."""
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    return lambda: (REGISTRY.get_sample_value(name, labels) or 0.0) - before


async def test_every_repo_becomes_a_job_active_or_not(redis: Redis, network: StartNetwork) -> None:
    served = await network("full")
    port = int(served.url.rpartition(":")[2])
    upstream = Upstream(f"127.0.0.1:{port}", False, port)
    async with listing(redis, upstream):
        await until_done(redis, upstream)
    assert await jobs(redis) == [
        {
            "did": repo.did,
            "host": served.url,
            "rev": repo.rev,
            "status": repo.status,
            "active": repo.active,
            "attempts": 0,
        }
        for repo in served.recording.repos
    ]
    assert {job["active"] for job in await jobs(redis)} == {True, False}


async def test_an_empty_page_with_a_cursor_is_not_the_end(redis: Redis, relay: Relay) -> None:
    pages = {
        "": {"repos": [], "cursor": "x"},
        "x": {"repos": [{"did": DIDS[0]}], "cursor": "y"},
        "y": {"repos": [], "cursor": ""},
    }
    relay.answer = lambda cursor, limit: pages[cursor]
    async with listing(redis, relay.upstream):
        await until_done(redis, relay.upstream)
    assert await dids(redis) == DIDS[:1]
    assert relay.asked == [("", 1000), ("x", 1000), ("y", 1000)]


async def test_a_listing_goes_on_where_it_was_stopped(redis: Redis, relay: Relay) -> None:
    await redis.set(cursor_key(REPO_BACKFILL, relay.upstream.host), "5")
    async with listing(redis, relay.upstream):
        await until_done(redis, relay.upstream)
    assert await dids(redis) == DIDS[5:]


async def test_a_finished_listing_begins_again_when_its_cursor_is_deleted(redis: Redis, relay: Relay) -> None:
    async with listing(redis, relay.upstream):
        await until_done(redis, relay.upstream)
        await eventually(shows_complete)
        await redis.delete(cursor_key(REPO_BACKFILL, relay.upstream.host))
        await until_done(redis, relay.upstream)
    assert await dids(redis) == DIDS * 2


async def test_a_row_that_is_none_costs_none_of_its_siblings(redis: Redis, relay: Relay) -> None:
    dropped = moved("ingester_dropped_total", source="listing", reason="bad_row")
    relay.answer = lambda cursor, limit: {"repos": [{"did": "alice.test"}, {"did": DIDS[0]}, 5, {}]}
    async with listing(redis, relay.upstream):
        await until_done(redis, relay.upstream)
    assert (await dids(redis), dropped()) == (DIDS[:1], 3)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=502),
        web.Response(status=404),
        web.Response(text="<html>"),
        {"repos": "none"},
        {"repos": [], "cursor": 5},
        ["repos"],
    ],
    ids=["outage", "refusal", "no JSON", "no list", "no cursor", "no object"],
)
async def test_a_page_that_fails_is_asked_for_again(redis: Redis, relay: Relay, answer: Any) -> None:
    fetch_errors, errors = moved("ingester_backfill_fetch_errors_total"), moved("ingester_errors_total")

    def mended_at_the_third(cursor: str, limit: int) -> Any:
        if len(relay.asked) > 2:
            return rows(DIDS)(cursor, limit)
        return web.Response(status=answer.status, text=answer.text) if isinstance(answer, web.Response) else answer

    relay.answer = mended_at_the_third
    async with listing(redis, relay.upstream):
        await until_done(redis, relay.upstream)
    assert (await dids(redis), fetch_errors(), errors()) == (DIDS, 2, 2)


async def test_a_host_that_leads_back_to_the_same_page_is_not_followed(
    redis: Redis, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    relay.answer = lambda cursor, limit: {"repos": [{"did": DIDS[0]}], "cursor": "x"}
    async with listing(redis, relay.upstream):

        async def has_come_back() -> bool:
            return len(relay.asked) > 3

        await eventually(has_come_back)
    assert await dids(redis) == DIDS[:1]
    assert caplog.text.count("no page of the list of repos") == 1


async def test_a_row_that_the_host_cannot_list_is_stepped_over_alone(
    redis: Redis, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    skips = moved("ingester_backfill_cursor_skips_total")
    await redis.set(cursor_key(REPO_BACKFILL, relay.upstream.host), "1")
    relay.answer = rows(DIDS, broken=4)
    async with listing(redis, relay.upstream):
        await until_done(redis, relay.upstream)
    assert (await dids(redis), skips()) == ([*DIDS[1:4], *DIDS[5:]], 1)
    assert "stepped over a row" in caplog.text
    (gap,) = await GapLedger(redis).all()
    assert (gap.source, gap.host, gap.kind) == ("listing", relay.upstream.host, "unlisted_rows")
    assert (gap.after, gap.before, gap.state) == (4, 6, "open")


async def test_no_row_is_stepped_over_while_the_host_is_down(redis: Redis, relay: Relay) -> None:
    skips = moved("ingester_backfill_cursor_skips_total")
    await redis.set(cursor_key(REPO_BACKFILL, relay.upstream.host), "1")
    relay.answer = lambda cursor, limit: web.Response(status=500) if len(relay.asked) < 9 else rows(DIDS)(cursor, limit)
    async with listing(redis, relay.upstream):
        await until_done(redis, relay.upstream)
    assert (await dids(redis), skips()) == (DIDS[1:], 0)


async def test_no_page_is_fetched_before_there_is_room_for_it(redis: Redis, relay: Relay) -> None:
    waiting = asyncio.Event()
    room = Room(redis, REPO_BACKFILL, 2, on_pressure=lambda stream, active, seconds: waiting.set())
    for _ in range(2):
        await redis.xadd(REPO_BACKFILL, {"repo": "{}"})
    async with listing(redis, relay.upstream, room):
        async with asyncio.timeout(20):
            await waiting.wait()
        assert relay.asked == []
        await redis.xtrim(REPO_BACKFILL, maxlen=0)
        await until_done(redis, relay.upstream)
    assert await dids(redis) == DIDS


async def test_a_cursor_moved_by_another_lister_is_followed_and_no_repo_is_queued_twice(
    redis: Redis, relay: Relay
) -> None:
    async def another_lister(cursor: str) -> None:
        if cursor == "":
            await redis.set(cursor_key(REPO_BACKFILL, relay.upstream.host), "6")

    relay.before_answering = another_lister
    relay.answer = lambda cursor, limit: rows(DIDS)(cursor, 4)
    unwritten = moved("ingester_dropped_total", source="listing", reason="unwritten")
    async with listing(redis, relay.upstream):
        await until_done(redis, relay.upstream)
    assert (await dids(redis), unwritten()) == (DIDS[6:], 4)


async def test_a_list_is_read_again_when_its_time_has_come(redis: Redis, relay: Relay) -> None:
    async with listing(redis, relay.upstream, repeat_seconds=1):

        async def is_listed_twice() -> bool:
            return await dids(redis) == DIDS * 2

        await eventually(is_listed_twice)


async def test_a_restart_does_not_put_off_the_next_listing(redis: Redis, relay: Relay) -> None:
    key = cursor_key(REPO_BACKFILL, relay.upstream.host)
    await redis.mset({key: LISTING_DONE, listed_key(key): 17})
    async with listing(redis, relay.upstream, repeat_seconds=3600):

        async def is_listed() -> bool:
            return await dids(redis) == DIDS

        await eventually(is_listed)


async def test_repos_that_are_current_are_counted_and_not_queued(redis: Redis, relay: Relay) -> None:
    async def are_current(jobs: Sequence[RepoJob]) -> list[bool]:
        return [job.did < DIDS[5] for job in jobs]

    current = moved("ingester_dropped_total", source="listing", reason="current")
    async with one_listing(redis, relay.upstream, are_current=are_current) as pages:
        assert await pages.to_its_end(asyncio.Event())
    assert (await dids(redis), current()) == (DIDS[5:], 5)


async def test_the_repos_of_a_collection_are_asked_for_by_its_name(redis: Redis, relay: Relay) -> None:
    async with one_listing(redis, relay.upstream, collection="app.bsky.actor.profile") as pages:
        assert await pages.to_its_end(asyncio.Event())
    assert await dids(redis) == DIDS
    assert relay.paths == [("listReposByCollection", "app.bsky.actor.profile")]


async def test_a_host_that_fails_again_and_again_is_let_go(redis: Redis, relay: Relay) -> None:
    relay.answer = lambda cursor, limit: web.Response(status=404)
    async with one_listing(redis, relay.upstream, tries=3) as pages:
        assert not await pages.to_its_end(asyncio.Event())
    assert len(relay.asked) == 3


async def test_a_host_that_makes_up_repos_without_end_is_let_go_and_that_is_written_down(
    redis: Redis, relay: Relay
) -> None:
    relay.answer = lambda cursor, limit: {"repos": [{"did": DIDS[0]}] * 2, "cursor": str(len(relay.asked))}
    async with one_listing(redis, relay.upstream, most_rows=3 * LEAST_ROWS_OF_A_PAGE) as pages:
        assert await pages.to_its_end(asyncio.Event())
    assert len(await dids(redis)) == 6
    assert [(gap.kind, gap.after, gap.before) for gap in await GapLedger(redis).all()] == [("too_many_rows", 0, None)]


async def test_pages_without_rows_and_without_end_are_not_asked_for_for_ever(redis: Redis, relay: Relay) -> None:
    relay.answer = lambda cursor, limit: {"repos": [], "cursor": str(len(relay.asked))}
    async with one_listing(redis, relay.upstream, most_rows=3 * LEAST_ROWS_OF_A_PAGE) as pages:
        assert await pages.to_its_end(asyncio.Event())
    assert len(relay.asked) == 3
    assert [gap.kind for gap in await GapLedger(redis).all()] == ["too_many_rows"]


async def test_what_a_host_says_of_a_repo_or_a_page_has_a_bound(redis: Redis, relay: Relay) -> None:
    relay.answer = lambda cursor, limit: {
        "repos": [{"did": DIDS[0], "rev": "3" * 99999, "status": "x" * 99999}],
        "cursor": "1" * 99999,
    }
    async with one_listing(redis, relay.upstream, tries=2) as pages:
        assert not await pages.to_its_end(asyncio.Event())
    assert await dids(redis) == []
    last = {"repos": [{"did": DIDS[0], "rev": "3" * 99999, "status": "x" * 99999}]}
    relay.answer = lambda cursor, limit: last
    async with one_listing(redis, relay.upstream) as pages:
        assert await pages.to_its_end(asyncio.Event())
    assert [(job["rev"], job["status"]) for job in await jobs(redis)] == [("", None)]
