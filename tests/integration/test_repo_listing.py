"""A host's list of repos, from its first page to its last: what the host says on the way."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from common.events import RepoJob
from common.streams import REPO_BACKFILL
from ingester import repo_listing
from ingester.cursors import cursor_key
from ingester.gaps import GapLedger
from ingester.repo_listing import LEAST_ROWS_OF_A_PAGE
from ingester.upstream import Upstream
from tests.listing_hosts import DIDS, Relay, dids, jobs, listing, one_listing, rows, until_done
from tests.recorded_network import StartNetwork
from tests.samples import moved
from tests.waiting import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are shortened; what is waited for is as it is."""
    monkeypatch.setattr(repo_listing, "FIRST_WAIT_SECONDS", 0.01)


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


async def test_an_empty_page_with_a_cursor_is_not_the_end(redis: Redis, lister: Relay) -> None:
    pages = {
        "": {"repos": [], "cursor": "x"},
        "x": {"repos": [{"did": DIDS[0]}], "cursor": "y"},
        "y": {"repos": [], "cursor": ""},
    }
    lister.answer = lambda cursor, limit: pages[cursor]
    async with listing(redis, lister.upstream):
        await until_done(redis, lister.upstream)
    assert await dids(redis) == DIDS[:1]
    assert lister.asked == [("", 1000), ("x", 1000), ("y", 1000)]


async def test_a_row_that_is_none_costs_none_of_its_siblings(redis: Redis, lister: Relay) -> None:
    dropped = moved("ingester_dropped_total", source="listing", reason="bad_row")
    lister.answer = lambda cursor, limit: {"repos": [{"did": "alice.test"}, {"did": DIDS[0]}, 5, {}]}
    async with listing(redis, lister.upstream):
        await until_done(redis, lister.upstream)
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
async def test_a_page_that_fails_is_asked_for_again(redis: Redis, lister: Relay, answer: Any) -> None:
    pages = moved("ingester_errors_by_reason_total", source="listing", reason="page")
    errors = moved("ingester_errors_total")

    def mended_at_the_third(cursor: str, limit: int) -> Any:
        if len(lister.asked) > 2:
            return rows(DIDS)(cursor, limit)
        return web.Response(status=answer.status, text=answer.text) if isinstance(answer, web.Response) else answer

    lister.answer = mended_at_the_third
    async with listing(redis, lister.upstream):
        await until_done(redis, lister.upstream)
    assert (await dids(redis), pages(), errors()) == (DIDS, 2, 2)


async def test_a_host_that_leads_back_to_the_same_page_is_not_followed(
    redis: Redis, lister: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    lister.answer = lambda cursor, limit: {"repos": [{"did": DIDS[0]}], "cursor": "x"}
    async with listing(redis, lister.upstream):

        async def has_come_back() -> bool:
            return len(lister.asked) > 3

        await until(has_come_back)
    assert await dids(redis) == DIDS[:1]
    assert caplog.text.count("no page of the list of repos") == 1


async def test_a_row_that_the_host_cannot_list_is_stepped_over_alone(
    redis: Redis, lister: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    skips = moved("ingester_errors_by_reason_total", source="listing", reason="row_skipped")
    await redis.set(cursor_key(REPO_BACKFILL, lister.upstream.host), "1")
    lister.answer = rows(DIDS, broken=4)
    async with listing(redis, lister.upstream):
        await until_done(redis, lister.upstream)
    assert (await dids(redis), skips()) == ([*DIDS[1:4], *DIDS[5:]], 1)
    assert "stepped over a row" in caplog.text
    (gap,) = await GapLedger(redis).all()
    assert (gap.source, gap.host, gap.kind) == ("listing", lister.upstream.host, "unlisted_rows")
    assert (gap.after, gap.before, gap.state) == (4, 6, "open")


async def test_no_row_is_stepped_over_while_the_host_is_down(redis: Redis, lister: Relay) -> None:
    skips = moved("ingester_errors_by_reason_total", source="listing", reason="row_skipped")
    await redis.set(cursor_key(REPO_BACKFILL, lister.upstream.host), "1")
    lister.answer = lambda cursor, limit: (
        web.Response(status=500) if len(lister.asked) < 9 else rows(DIDS)(cursor, limit)
    )
    async with listing(redis, lister.upstream):
        await until_done(redis, lister.upstream)
    assert (await dids(redis), skips()) == (DIDS[1:], 0)


async def test_repos_that_are_current_are_counted_and_not_queued(redis: Redis, lister: Relay) -> None:
    async def are_current(jobs: Sequence[RepoJob]) -> list[bool]:
        return [job.did < DIDS[5] for job in jobs]

    current = moved("ingester_dropped_total", source="listing", reason="current")
    async with one_listing(redis, lister.upstream, are_current=are_current) as pages:
        assert await pages.to_its_end(asyncio.Event())
    assert (await dids(redis), current()) == (DIDS[5:], 5)


async def test_the_repos_of_a_collection_are_asked_for_by_its_name(redis: Redis, lister: Relay) -> None:
    async with one_listing(redis, lister.upstream, collection="app.bsky.actor.profile") as pages:
        assert await pages.to_its_end(asyncio.Event())
    assert await dids(redis) == DIDS
    assert lister.paths == [("listReposByCollection", "app.bsky.actor.profile")]


async def test_a_host_that_fails_again_and_again_is_let_go(redis: Redis, lister: Relay) -> None:
    lister.answer = lambda cursor, limit: web.Response(status=404)
    async with one_listing(redis, lister.upstream, tries=3) as pages:
        assert not await pages.to_its_end(asyncio.Event())
    assert len(lister.asked) == 3


async def test_a_host_that_makes_up_repos_without_end_is_let_go_and_that_is_written_down(
    redis: Redis, lister: Relay
) -> None:
    lister.answer = lambda cursor, limit: {"repos": [{"did": DIDS[0]}] * 2, "cursor": str(len(lister.asked))}
    async with one_listing(redis, lister.upstream, most_rows=3 * LEAST_ROWS_OF_A_PAGE) as pages:
        assert await pages.to_its_end(asyncio.Event())
    assert len(await dids(redis)) == 6
    assert [(gap.kind, gap.after, gap.before) for gap in await GapLedger(redis).all()] == [("too_many_rows", 0, None)]


async def test_pages_without_rows_and_without_end_are_not_asked_for_for_ever(redis: Redis, lister: Relay) -> None:
    lister.answer = lambda cursor, limit: {"repos": [], "cursor": str(len(lister.asked))}
    async with one_listing(redis, lister.upstream, most_rows=3 * LEAST_ROWS_OF_A_PAGE) as pages:
        assert await pages.to_its_end(asyncio.Event())
    assert len(lister.asked) == 3
    assert [gap.kind for gap in await GapLedger(redis).all()] == ["too_many_rows"]


async def test_what_a_host_says_of_a_repo_or_a_page_has_a_bound(redis: Redis, lister: Relay) -> None:
    lister.answer = lambda cursor, limit: {
        "repos": [{"did": DIDS[0], "rev": "3" * 99999, "status": "x" * 99999}],
        "cursor": "1" * 99999,
    }
    async with one_listing(redis, lister.upstream, tries=2) as pages:
        assert not await pages.to_its_end(asyncio.Event())
    assert await dids(redis) == []
    last = {"repos": [{"did": DIDS[0], "rev": "3" * 99999, "status": "x" * 99999}]}
    lister.answer = lambda cursor, limit: last
    async with one_listing(redis, lister.upstream) as pages:
        assert await pages.to_its_end(asyncio.Event())
    assert [(job["rev"], job["status"]) for job in await jobs(redis)] == [("", None)]
