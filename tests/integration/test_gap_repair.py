"""A gap is made good by a comparison that began after the gap had ended, and is closed by nothing else."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from common.events import RepoJob
from ingester import gap_repair, repo_listing
from ingester.gap_repair import GapRepair, comparison_key
from ingester.gaps import COMPARING, Gap, GapLedger
from tests.listing_hosts import DIDS, Relay, dids, jobs, one_listing, rows
from tests.waiting import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are shortened; what is waited for is as it is."""
    monkeypatch.setattr(repo_listing, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(gap_repair, "RECHECK_SECONDS", 0.01)


@asynccontextmanager
async def repair(redis: Redis, lister: Relay, **listed: Any) -> AsyncIterator[None]:
    stop, host = asyncio.Event(), lister.upstream.host
    options = {"key": comparison_key(host), "reason": "gap"} | listed
    async with one_listing(redis, lister.upstream, **options) as comparison, asyncio.TaskGroup() as tasks:
        tasks.create_task(GapRepair(redis, GapLedger(redis), host, comparison).run(stop))
        yield
        stop.set()


def missed(lister: Relay, **changes: Any) -> Gap:
    host = lister.upstream.host
    fields = {"source": "firehose", "host": host, "kind": "seq_jump", "after": 5, "before": 9, "why": ""}
    return Gap(**(fields | changes))


def states(redis: Redis) -> Callable[[], Any]:
    async def found() -> dict[int, str]:
        return {gap.after: gap.state for gap in await GapLedger(redis).all()}

    return found


def is_closed(redis: Redis, *afters: int) -> Callable[[], Any]:
    async def closed() -> bool:
        found = await states(redis)()
        return all(found[after] == "closed" for after in afters)

    return closed


async def test_after_a_gap_the_repos_that_differ_are_queued_and_the_gap_is_closed(redis: Redis, lister: Relay) -> None:
    async def are_current(jobs: Sequence[RepoJob]) -> list[bool]:
        return [job.did < DIDS[3] for job in jobs]

    lister.answer = lambda cursor, limit: rows(DIDS)(cursor, 2)
    await GapLedger(redis).record(missed(lister))
    async with repair(redis, lister, are_current=are_current):
        await until(is_closed(redis, 5))
    assert [(job["did"], job["reason"]) for job in await jobs(redis)] == [(did, "gap") for did in DIDS[3:]]


async def test_gaps_that_are_not_the_relays_or_have_not_ended_wait(redis: Redis, lister: Relay) -> None:
    book = GapLedger(redis)
    await book.record(missed(lister, after=1, source="labeler"))
    await book.record(missed(lister, after=2, host="elsewhere.example.com"))
    await book.record(missed(lister, after=3, before=None, kind="future_cursor"))
    await book.record(missed(lister, after=4))
    async with repair(redis, lister):
        await until(is_closed(redis, 4))
    assert await states(redis)() == {1: "open", 2: "open", 3: "open", 4: "closed"}
    assert await dids(redis) == DIDS


async def test_a_gap_found_during_a_comparison_gets_one_of_its_own(redis: Redis, lister: Relay) -> None:
    book = GapLedger(redis)
    await book.record(missed(lister))

    async def another_gap(cursor: str) -> None:
        if cursor == "4" and len(await book.all()) == 1:
            await book.record(missed(lister, after=20, before=30))

    lister.answer = lambda cursor, limit: rows(DIDS)(cursor, 4)
    lister.before_answering = another_gap
    async with repair(redis, lister):
        await until(is_closed(redis, 5))
        await until(is_closed(redis, 5, 20))
    assert await dids(redis) == DIDS * 2


async def test_a_gap_that_grows_during_a_comparison_is_compared_again(redis: Redis, lister: Relay) -> None:
    book = GapLedger(redis)
    await book.record(missed(lister))

    async def grow(cursor: str) -> None:
        await book.record(missed(lister, before=99))

    lister.before_answering = grow
    async with repair(redis, lister):
        await until(is_closed(redis, 5))
    assert await dids(redis) == DIDS * 2
    assert [gap.before for gap in await book.all()] == [99]


async def test_a_comparison_goes_on_where_it_was_stopped(redis: Redis, lister: Relay) -> None:
    book = GapLedger(redis)
    await book.record(missed(lister))
    await book.change((await book.all())[0], state=COMPARING)
    await redis.set(comparison_key(lister.upstream.host), "6")
    async with repair(redis, lister):
        await until(is_closed(redis, 5))
    assert await dids(redis) == DIDS[6:]


async def test_the_end_of_an_earlier_comparison_closes_no_new_gap(redis: Redis, lister: Relay) -> None:
    await redis.set(comparison_key(lister.upstream.host), "!ingester-done")
    await GapLedger(redis).record(missed(lister))
    async with repair(redis, lister):
        await until(is_closed(redis, 5))
    assert await dids(redis) == DIDS


async def test_while_the_list_cannot_be_had_the_gap_stays(redis: Redis, lister: Relay) -> None:
    lister.answer = lambda cursor, limit: web.Response(status=503)
    await GapLedger(redis).record(missed(lister))
    async with repair(redis, lister):
        await until(lambda: len(lister.asked) > 3)
        assert await states(redis)() == {5: "comparing"}
        lister.answer = rows(DIDS)
        await until(is_closed(redis, 5))
    assert await dids(redis) == DIDS
