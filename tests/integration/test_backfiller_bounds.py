"""What is bounded beside the streams: jobs that are parked, and how often one may end the process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from redis.asyncio import Redis

from backfiller.suspects import SUSPECT_AFTER, Suspects
from common.delivery import Delivery
from sluice.server import free_port
from tests.backfilling import (
    DLQ,
    INPUT,
    PARKED,
    OpenRecording,
    backfiller,
    enqueue,
    environment,
    host,
    idle,
    whole,
)
from tests.commands import ROOT
from tests.samples import sample
from tests.waiting import until

BEGUN = f"{INPUT}:begun"


async def test_when_as_many_are_parked_as_may_be_no_others_are_taken(
    redis: Redis, redis_url: str, recording: OpenRecording
) -> None:
    """They come back as they are due, the others stay on the stream meanwhile, and all are done in the end."""
    tiny = recording("load-tiny")
    dids = [repo.did for repo in tiny.repos if repo.active]
    mark, in_hand = 5, 4
    async with host() as pds:
        for did in dids:
            pds.serve(tiny, did, web.Response(status=500, headers={"Retry-After": "3600"}))
        await enqueue(redis, dids)
        few = {"BACKFILLER_PARKED_HIGH_WATER_MARK": str(mark), "BACKFILLER_CONCURRENCY": "1"}
        async with backfiller(environment(redis_url, pds.url, **few)):
            await until(lambda: sample("backfiller_parking_full"))
            await until(lambda: not sample("backfiller_repos_running"))
            parked = await redis.zcard(PARKED)
            assert mark <= parked <= mark + in_hand
            assert await redis.xlen(INPUT) == len(dids) - parked
            assert pds.requests.keys() - {"plc"} <= set(dids[:parked])
            await redis.delete(f"{INPUT}:host:{pds.url}")  # its rest is over
            for did in dids:
                pds.repos[did] = pds.repos[did][-1:]
            for job in await redis.zrange(PARKED, 0, -1):
                await redis.zadd(PARKED, {job: 0})
            await until(lambda: idle(redis))
            assert not sample("backfiller_parking_full")
    assert await whole(redis) == set(dids)


async def test_who_is_told_to_stop_while_others_are_parked_leaves_the_jobs(redis: Redis, redis_url: str) -> None:
    await redis.zadd(PARKED, {"{}": 9e15})
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
    async with host() as pds:
        async with backfiller(environment(redis_url, pds.url, BACKFILLER_PARKED_HIGH_WATER_MARK="1")):
            await until(lambda: sample("backfiller_parking_full"))
        assert not pds.requests
    assert await redis.xlen(INPUT) == 1


async def restarted(environ: dict[str, str], deadly: asyncio.Event, done: Callable[[], Awaitable[bool]]) -> None:
    """A daemon that is ended with kill -9 as soon as `deadly` is true and then started again, until `done`."""
    while not await done():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "backfiller"),
            cwd=ROOT,
            env={**os.environ, "BACKFILLER_METRICS_PORT": str(free_port()), **environ},
        )
        try:
            death = asyncio.create_task(deadly.wait())
            end = asyncio.create_task(until(done))
            await asyncio.wait((death, end), return_when=asyncio.FIRST_COMPLETED)
            death.cancel()
            end.cancel()
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
            deadly.clear()


async def test_a_repo_that_ends_the_process_is_given_up_and_those_beside_it_are_not(
    redis: Redis, redis_url: str, recording: OpenRecording
) -> None:
    tiny = recording("load-tiny")
    bad, *others = [repo.did for repo in tiny.repos if repo.active][:12]
    deadly, deaths = asyncio.Event(), 3

    async def kill(_: web.Request) -> web.StreamResponse:
        deadly.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with host() as pds, host() as killer:
        killer.serve(tiny, bad, *[kill] * 99)
        pds.document(tiny, bad, killer.url)
        for did in others:
            pds.serve(tiny, did)
        await enqueue(redis, [bad, *others])
        environ = environment(redis_url, pds.url, killer.url, BACKFILLER_MAX_DEATHS=str(deaths))
        await restarted(environ, deadly, lambda: idle(redis))
        assert killer.requests[bad] == deaths
    [(_, letter)] = await redis.xrange(DLQ)
    assert (letter[b"reason"], letter[b"error"]) == (b"process_died", b"process_died")
    job = json.loads(letter[b"repo"])
    assert job["did"] == bad
    assert [line.split()[1] for line in job["history"]] == ["process_died"]
    assert await whole(redis) == set(others)
    assert not await redis.exists(BEGUN)


def entry(number: int) -> Delivery:
    return Delivery(b"%d-0" % number, b"job", {b"repo": b"job"})


async def test_a_job_that_was_in_hand_too_often_is_told_apart_by_being_begun_alone(redis: Redis) -> None:
    """What a process that dies leaves behind is what a new one of the same stream finds."""
    stop, suspect, other = asyncio.Event(), entry(1), entry(2)
    for job in (suspect, other):
        await redis.hset(BEGUN, job.id.decode(), SUSPECT_AFTER)
    suspects = Suspects(redis, INPUT, SUSPECT_AFTER + 1)
    order: list[str] = []

    async def take(job: Delivery, name: str) -> None:
        async with suspects.begun(job, stop) as ended:
            order.append(f"{name} {ended}")

    async with asyncio.TaskGroup() as group, suspects.begun(suspect, stop) as ended:
        assert ended == 0
        group.create_task(take(other, "other"))
        await take(entry(3), "fresh")
        assert order == ["fresh 0"]
        assert await redis.hget(BEGUN, suspect.id.decode()) == b"%d" % (SUSPECT_AFTER + 1)
        assert await redis.hget(BEGUN, other.id.decode()) == b"%d" % SUSPECT_AFTER
    assert order == ["fresh 0", "other 0"]
    assert not await redis.exists(BEGUN)
    await redis.hset(BEGUN, suspect.id.decode(), SUSPECT_AFTER + 1)
    async with suspects.begun(suspect, stop) as ended:
        assert ended == SUSPECT_AFTER + 1


async def test_an_error_of_ours_stays_counted_and_being_stopped_does_not(redis: Redis) -> None:
    suspects, stop = Suspects(redis, INPUT, 9), asyncio.Event()

    async def fail(job: Delivery, error: BaseException) -> None:
        async with suspects.begun(job, stop):
            raise error

    with pytest.raises(TypeError):
        await fail(entry(1), TypeError("a bug"))
    with pytest.raises(asyncio.CancelledError):
        await fail(entry(2), asyncio.CancelledError())
    async with suspects.begun(entry(3), stop):
        assert await redis.hget(BEGUN, "3-0") == b"1"
    assert await redis.hgetall(BEGUN) == {b"1-0": b"1"}
