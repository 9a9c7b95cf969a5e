"""Memory, a disk or an output that is full: the repos wait, and nothing is lost."""

import asyncio
import os
from pathlib import Path

import pytest
from aiohttp import web
from redis.asyncio import Redis

from backfiller import spool
from common.backpressure import Room
from sluice.recording import Recording
from tests.backfilling import (
    INPUT,
    OUTPUT,
    OpenRecording,
    backfiller,
    enqueue,
    environment,
    host,
    idle,
    leaves,
    ours,
    output,
    refusal,
    whole,
    work_off,
)
from tests.recorded_network import StartNetwork
from tests.samples import sample
from tests.signed_repos import Signer
from tests.waiting import until

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


async def test_repos_that_find_no_room_in_memory_go_to_disk(
    redis: Redis, redis_url: str, basic: Recording, tmp_path: Path
) -> None:
    """All are under way together, all but their last bytes: one fits in memory."""
    sizes = {repo.did: len(basic.car(repo.did) or b"") for repo in basic.repos}
    go_on = asyncio.Event()

    async def hesitate(request: web.Request) -> web.StreamResponse:
        car = basic.car(request.query["did"]) or b""
        response = web.StreamResponse(headers={"Content-Length": str(len(car))})
        await response.prepare(request)
        await response.write(car[:-1])
        await go_on.wait()
        await response.write(car[-1:])
        return response

    def in_hand() -> tuple[float, float]:
        return sample("backfiller_bytes_in_hand", where="memory"), sample("backfiller_bytes_in_hand", where="disk")

    async with host() as pds:
        pds.serve_made(DID, Signer(), refusal("RepoNotFound"))
        for did in sizes:
            pds.serve(basic, did, hesitate)
        await enqueue(redis, [DID])
        small = {
            "BACKFILLER_MEMORY_BYTES": str(8 * min(sizes.values())),
            "BACKFILLER_HOST_CONCURRENCY": "99",
            "BACKFILLER_SPOOL_FOLDER": str(tmp_path),
        }
        async with backfiller(environment(redis_url, pds.url, **small)):
            await until(lambda: idle(redis))  # it has answered: from now on it has all its turns
            await enqueue(redis, sizes)
            await until(lambda: sum(in_hand()) == sum(sizes.values()) - len(sizes))
            memory, disk = in_hand()
            assert memory <= 8 * min(sizes.values())
            assert 0 < memory < disk
            go_on.set()
            await until(lambda: idle(redis))
            assert in_hand() == (0, 0)
    assert await whole(redis) == set(sizes)
    found = await output(redis)
    assert all(found[did].paths == ours(leaves(basic.car(did) or b"")) for did in sizes)
    assert os.listdir(tmp_path) == []


async def test_a_full_disk_costs_no_try_and_nothing_is_lost(
    redis: Redis, redis_url: str, basic: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "WAIT_SECONDS", 0.05)
    sizes = {repo.did: len(basic.car(repo.did) or b"") for repo in basic.repos}
    before = sample("backfiller_deferrals_total", reason="disk_full"), sample("backfiller_repos_failed_total")

    def deferred() -> bool:
        return sample("backfiller_deferrals_total", reason="disk_full") > before[0]

    async with host() as pds:
        for did in sizes:
            pds.serve(basic, did)
        await enqueue(redis, sizes)
        settings = environment(redis_url, pds.url, BACKFILLER_MEMORY_BYTES="8")
        async with backfiller({**settings, "BACKFILLER_SPOOL_BYTES": str(min(sizes.values()) - 1)}):
            await until(deferred)
            assert await redis.xlen(OUTPUT) == 0
        await work_off(redis, {**settings, "BACKFILLER_SPOOL_BYTES": str(max(sizes.values()))})
    assert sample("backfiller_repos_failed_total") == before[1]
    assert await whole(redis) == set(sizes)


async def test_a_full_output_makes_the_repos_wait_and_nothing_is_lost(
    network: StartNetwork, redis: Redis, redis_url: str
) -> None:
    served = await network("load-tiny")
    dids = [repo.did for repo in served.recording.repos if repo.active]
    mark, batch = 200, 20
    seen: list[bytes] = []
    longest = 0

    async def drained() -> bool:
        """An indexer that takes its time: 50 entries at each look."""
        nonlocal longest
        longest = max(longest, await redis.xlen(OUTPUT))
        page = await redis.xrange(OUTPUT, count=50)
        seen.extend(fields[b"event"] for _, fields in page)
        if page:
            await redis.xdel(OUTPUT, *(id for id, _ in page))
        return not page and await idle(redis)

    before = sample("sluice_backpressure_seconds_total", stream=OUTPUT)
    await enqueue(redis, dids)
    settings = {"BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK": str(mark), "BACKFILLER_BATCH_SIZE": str(batch)}
    async with backfiller(environment(redis_url, served.url, BACKFILLER_CONCURRENCY="2", **settings)):
        await until(lambda: sample("backfiller_backpressure_active"))
        await until(drained)
        assert not sample("backfiller_backpressure_active")
    assert longest <= mark + 8 * batch
    assert sample("sluice_backpressure_seconds_total", stream=OUTPUT) > before
    expected = sum(len(ours(leaves(served.recording.car(did) or b""))) + 1 for did in dids)
    assert len(seen) == len(set(seen)) == expected


async def test_a_full_output_keeps_new_repos_from_being_fetched(
    network: StartNetwork, redis: Redis, redis_url: str
) -> None:
    served = await network("basic")
    await redis.xadd(OUTPUT, {"event": "{}"})
    await enqueue(redis, [repo.did for repo in served.recording.repos])
    settings = environment(redis_url, served.url, BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK="1")
    async with backfiller(settings):
        await until(lambda: sample("backfiller_backpressure_active"))
        assert not any("getRepo" in path for path in served.requests)
        await redis.delete(OUTPUT)
        await until(lambda: redis.xlen(OUTPUT))


async def test_who_is_told_to_stop_while_the_output_is_full_keeps_the_repo(
    redis: Redis, redis_url: str, recording: OpenRecording
) -> None:
    tiny = recording("load-tiny")
    did = next(repo.did for repo in tiny.repos if repo.active and len(ours(leaves(tiny.car(repo.did) or b""))) > 20)
    await enqueue(redis, [did])
    few = {"BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK": "10", "BACKFILLER_BATCH_SIZE": "5"}
    async with host() as pds:
        pds.serve(tiny, did)
        async with backfiller(environment(redis_url, pds.url, **few)):
            await until(lambda: sample("backfiller_backpressure_active"))
        assert await redis.xlen(INPUT) == 1
        assert not (await output(redis))[did].whole
        await work_off(redis, environment(redis_url, pds.url))
    assert (await output(redis))[did].whole


async def test_of_many_who_wait_for_room_one_watches(redis: Redis) -> None:
    await redis.xadd(OUTPUT, {"event": "{}"})
    told: list[tuple[bool, float]] = []
    room = Room(redis, OUTPUT, 1, on_pressure=lambda stream, active, seconds: told.append((active, seconds)))
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.TaskGroup() as group:
        watcher, *others = (group.create_task(room.wait(asyncio.Event())) for _ in range(20))

        await until(lambda: told)
        watcher.cancel()
        await until(lambda: sum(active and not seconds for active, seconds in told) == 2)
        await redis.delete(OUTPUT)
    assert all(task.result() for task in others)
    assert sum(not active for active, _ in told) == 2
    assert sum(seconds for _, seconds in told) < loop.time() - started
