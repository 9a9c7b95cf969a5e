"""Who waits for whom: hosts that are slow, dead or busy keep no place of others, and what is urgent overtakes."""

import asyncio
import itertools

import pytest
from aiohttp import web
from redis.asyncio import Redis

from backfiller import permits
from sluice.recording import Recording
from tests.backfilling import (
    DLQ,
    HIGH,
    INPUT,
    PARKED,
    OpenRecording,
    backfiller,
    enqueue,
    environment,
    host,
    idle,
    no_entries,
    output,
    silence,
    whole,
)
from tests.samples import sample
from tests.waiting import until


async def test_a_rate_limit_uses_up_no_try_and_gives_the_host_a_rest(
    redis: Redis, redis_url: str, basic: Recording
) -> None:
    did, other = (repo.did for repo in basic.repos[:2])
    before = sample("backfiller_deferrals_total", reason="rate_limited"), sample("backfiller_repos_failed_total")
    slow_down = web.Response(status=429, headers={"Retry-After": "1"})
    async with host() as pds:
        pds.serve(basic, did, slow_down, slow_down)
        pds.serve(basic, other)
        await enqueue(redis, [did])
        async with backfiller(environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="1")):
            await until(lambda: pds.requests[did])
            first_asked = pds.last_asked[did]
            await enqueue(redis, [other])
            await until(lambda: idle(redis))
        assert pds.requests[did] == 3
        assert pds.last_asked[did] > first_asked + 2
        assert pds.last_asked[other] > first_asked + 1
    assert await whole(redis) == {did, other}
    assert await redis.xlen(DLQ) == 0
    assert sample("backfiller_deferrals_total", reason="rate_limited") == before[0] + 2
    assert sample("backfiller_repos_failed_total") == before[1]


async def test_hosts_that_never_answer_keep_one_slot_each(
    redis: Redis, redis_url: str, recording: OpenRecording
) -> None:
    tiny = recording("load-tiny")
    dids = [repo.did for repo in tiny.repos if repo.active]
    lost, good = dids[:20], dids[20:]
    async with host() as black, host() as hole, host() as pds:
        for did, nowhere in zip(lost, itertools.cycle((black, hole))):
            nowhere.serve(tiny, did, *[silence] * 99)
            pds.document(tiny, did, nowhere.url)
        for did in good:
            pds.serve(tiny, did)
        await enqueue(redis, [*lost, *good])
        async with backfiller(environment(redis_url, pds.url, black.url, hole.url, BACKFILLER_CONCURRENCY="4")):

            async def all_good_ones_are_out() -> bool:
                return await whole(redis) >= set(good)

            await until(all_good_ones_are_out)
            assert (black.requests.total(), hole.requests.total()) == (1, 1)
    assert await redis.xlen(INPUT) + await redis.zcard(PARKED) == len(lost)


async def test_for_each_download_four_jobs_are_in_hand_and_one_asks_the_directory(redis: Redis, redis_url: str) -> None:
    """They all wait for it, and it does not answer."""
    await enqueue(redis, [f"did:plc:aaaaaaaaaaaaaaaaaaaaaa{a}{b}" for a in "abcd" for b in "abcd"])
    async with host() as plc:
        plc.answers_lookups.clear()
        async with backfiller(environment(redis_url, plc.url, BACKFILLER_CONCURRENCY="2")):
            await until(lambda: sample("backfiller_repos_running") == 8 and plc.requests["plc"] == 2)
            with pytest.raises(TimeoutError):
                await until(lambda: sample("backfiller_repos_running") > 8 or plc.requests["plc"] > 2, seconds=0.3)


async def test_an_urgent_repo_overtakes_a_queue_whose_places_are_all_taken(
    redis: Redis, redis_url: str, recording: OpenRecording
) -> None:
    """Every place of the others waits for a host that is silent; what was asked for with priority is done meanwhile."""
    tiny = recording("load-tiny")
    urgent, *others = [repo.did for repo in tiny.repos if repo.active]
    async with host() as silent, host() as pds:
        for did in others:
            silent.serve(tiny, did, *[silence] * 99)
            pds.document(tiny, did, silent.url)
        pds.serve(tiny, urgent)
        await enqueue(redis, others)
        few = {"BACKFILLER_CONCURRENCY": "1", "BACKFILLER_HOST_CONCURRENCY": "1"}
        async with backfiller(environment(redis_url, pds.url, silent.url, **few)):
            await until(silent.requests.total)
            await enqueue(redis, [urgent], HIGH)

            async def urgent_one_is_out() -> bool:
                return (await output(redis))[urgent].whole

            await until(urgent_one_is_out)
            await until(no_entries(redis, HIGH))
            assert silent.requests.total() == 1
    assert await redis.xlen(INPUT) + await redis.zcard(PARKED) == len(others)


async def test_an_urgent_repo_that_fails_comes_back_as_urgent(redis: Redis, redis_url: str, basic: Recording) -> None:
    did = basic.repos[0].did
    async with host() as pds:
        pds.serve(basic, did, web.Response(status=500, headers={"Retry-After": "1"}))
        await enqueue(redis, [did], HIGH)
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: redis.zcard(f"{HIGH}:parked"))
            assert not await redis.zcard(PARKED)
            await until(no_entries(redis, HIGH))
            await until(lambda: idle(redis))
    assert (await output(redis))[did].whole


async def test_a_dead_host_with_half_of_all_repos_costs_the_others_nothing(
    redis: Redis, redis_url: str, recording: OpenRecording
) -> None:
    """It is asked a few times, and then by one at a time; its repos wait outside, with their tries kept."""
    tiny = recording("load-tiny")
    dids = [repo.did for repo in tiny.repos if repo.active]
    half = len(dids) // 2
    dead, good = dids[:half], dids[half:]
    asked = 0

    async def broken(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=500)

    before = sample("backfiller_repos_failed_total"), sample("backfiller_deferrals_total", reason="host_down")
    async with host() as ill, host() as pds:
        for did in dead:
            ill.serve(tiny, did, *[broken] * 99)
            pds.document(tiny, did, ill.url)
        for did in good:
            pds.serve(tiny, did)
        await enqueue(redis, [did for pair in zip(dead, good, strict=False) for did in pair] + dids[2 * half :])
        settings = environment(redis_url, pds.url, ill.url, BACKFILLER_MAX_RETRIES="99")
        async with backfiller(settings):

            async def all_good_ones_are_out() -> bool:
                return await whole(redis) >= set(good)

            await until(all_good_ones_are_out)
            await until(lambda: sample("backfiller_deferrals_total", reason="host_down") - before[1] >= len(dead) // 2)
            assert sample("backfiller_hosts_left_alone", state="down") == 1
        assert asked == permits.DOWN_AFTER_FAULTS
        assert sample("backfiller_repos_failed_total") - before[0] == asked
    assert await redis.xlen(DLQ) == 0
    assert await redis.xlen(INPUT) + await redis.zcard(f"{INPUT}:parked") == len(dead)


async def test_the_limits_that_a_pds_tells_are_kept_by_two_backfillers(
    redis: Redis, redis_url: str, recording: OpenRecording
) -> None:
    """It allows four in a window of two seconds, and counts who comes too often."""
    tiny = recording("load-tiny")
    dids = [repo.did for repo in tiny.repos if repo.active][:12]
    loop = asyncio.get_running_loop()
    window: list[float] = []
    too_often = 0

    async def limited(request: web.Request) -> web.StreamResponse:
        nonlocal too_often, window
        now = loop.time()
        window = [when for when in window if now - when < 2.0]
        left = 4 - len(window)
        headers = {"RateLimit-Limit": "4", "RateLimit-Reset": "2", "RateLimit-Remaining": str(max(left - 1, 0))}
        if left <= 0:
            too_often += 1
            return web.Response(status=429, headers=headers)
        window.append(now)
        return web.Response(body=tiny.car(request.query["did"]), headers=headers)

    async with host() as pds:
        for did in dids:
            pds.serve(tiny, did, *[limited] * 99)
        await enqueue(redis, dids)
        few = environment(redis_url, pds.url, BACKFILLER_HOST_CONCURRENCY="1")
        async with backfiller(few), backfiller({**few, "BACKFILLER_CONSUMER": "backfiller2"}):
            await until(lambda: idle(redis), seconds=30)
    assert await whole(redis) == set(dids)
    assert too_often <= 2
