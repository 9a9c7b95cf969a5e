"""Hosts that are slow or busy, an output or a Redis that is full: the others go on, and nothing is lost."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from backfiller import spool
from backfiller.ledger import Ledger
from backfiller.outcomes import Finished
from backfiller.parking import Parking
from backfiller.settlements import Settlements
from common.backpressure import Room
from common.delivery import Delivery
from common.streams import StreamConsumer
from sluice.recording import Recording
from tests.backfilling import (
    DLQ,
    GROUP,
    HIGH,
    INPUT,
    OUTPUT,
    PARKED,
    OpenRecording,
    StartNetwork,
    backfiller,
    enqueue,
    environment,
    host,
    idle,
    leaves,
    metric,
    no_entries,
    ours,
    output,
    refusal,
    silence,
)
from tests.signed_repos import Signer
from tests.waiting import until

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


# hosts that are slow, busy or full


async def test_a_rate_limit_uses_up_no_try_and_gives_the_host_a_rest(
    redis: Redis, redis_url: str, basic: Recording
) -> None:
    did, other = (repo.did for repo in basic.repos[:2])
    before = metric("backfiller_deferrals_total", reason="rate_limited"), metric("backfiller_repos_failed_total")
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
    assert {each for each, emitted in (await output(redis)).items() if emitted.whole} == {did, other}
    assert await redis.xlen(DLQ) == 0
    assert metric("backfiller_deferrals_total", reason="rate_limited") == before[0] + 2
    assert metric("backfiller_repos_failed_total") == before[1]


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
                return {did for did, emitted in (await output(redis)).items() if emitted.whole} >= set(good)

            await until(all_good_ones_are_out)
            assert (black.requests.total(), hole.requests.total()) == (1, 1)
    assert await redis.xlen(INPUT) + await redis.zcard(PARKED) == len(lost)


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
        return metric("backfiller_bytes_in_hand", where="memory"), metric("backfiller_bytes_in_hand", where="disk")

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
    assert {did for did, emitted in (await output(redis)).items() if emitted.whole} == set(sizes)
    found = await output(redis)
    assert all(found[did].paths == ours(leaves(basic.car(did) or b"")) for did in sizes)
    assert os.listdir(tmp_path) == []


async def test_a_full_disk_costs_no_try_and_nothing_is_lost(
    redis: Redis, redis_url: str, basic: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "WAIT_SECONDS", 0.05)
    sizes = {repo.did: len(basic.car(repo.did) or b"") for repo in basic.repos}
    before = metric("backfiller_deferrals_total", reason="disk_full"), metric("backfiller_repos_failed_total")

    def deferred() -> bool:
        return metric("backfiller_deferrals_total", reason="disk_full") > before[0]

    async with host() as pds:
        for did in sizes:
            pds.serve(basic, did)
        await enqueue(redis, sizes)
        settings = environment(redis_url, pds.url, BACKFILLER_MEMORY_BYTES="8")
        async with backfiller({**settings, "BACKFILLER_SPOOL_BYTES": str(min(sizes.values()) - 1)}):
            await until(deferred)
            assert await redis.xlen(OUTPUT) == 0
        async with backfiller({**settings, "BACKFILLER_SPOOL_BYTES": str(max(sizes.values()))}):
            await until(lambda: idle(redis))
    assert metric("backfiller_repos_failed_total") == before[1]
    assert {did for did, emitted in (await output(redis)).items() if emitted.whole} == set(sizes)


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

    before = metric("backfiller_backpressure_seconds_total"), metric("backfiller_backpressure_activations_total")
    await enqueue(redis, dids)
    settings = {"BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK": str(mark), "BACKFILLER_BATCH_SIZE": str(batch)}
    async with backfiller(environment(redis_url, served.url, BACKFILLER_CONCURRENCY="2", **settings)):
        await until(lambda: metric("backfiller_backpressure_active"))
        await until(drained)
        assert not metric("backfiller_backpressure_active")
    assert longest <= mark + 8 * batch
    assert metric("backfiller_backpressure_seconds_total") > before[0]
    assert metric("backfiller_backpressure_activations_total") > before[1]
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
        await until(lambda: metric("backfiller_backpressure_active"))
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
            await until(lambda: metric("backfiller_backpressure_active"))
        assert await redis.xlen(INPUT) == 1
        assert not (await output(redis))[did].whole
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: idle(redis))
    assert (await output(redis))[did].whole


async def test_for_each_download_four_jobs_are_in_hand_and_one_asks_the_directory(redis: Redis, redis_url: str) -> None:
    """They all wait for it, and it does not answer."""
    await enqueue(redis, [f"did:plc:aaaaaaaaaaaaaaaaaaaaaa{a}{b}" for a in "abcd" for b in "abcd"])
    async with host() as plc:
        plc.answers_lookups.clear()
        async with backfiller(environment(redis_url, plc.url, BACKFILLER_CONCURRENCY="2")):
            await until(lambda: metric("backfiller_repos_running") == 8 and plc.requests["plc"] == 2)
            with pytest.raises(TimeoutError):
                await until(lambda: metric("backfiller_repos_running") > 8 or plc.requests["plc"] > 2, seconds=0.3)


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


# a Redis that is full, replies that are lost


def settlements(redis: Redis, consumer: StreamConsumer) -> Settlements:
    return Settlements(redis, consumer, Ledger(redis, INPUT), DLQ, recheck_seconds=60)


@pytest.fixture
async def delivery(redis: Redis) -> AsyncIterator[tuple[StreamConsumer, Delivery]]:
    consumer = StreamConsumer(redis, INPUT, GROUP, "backfiller1", field="repo", batch_size=10)
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
    async for deliveries in consumer.batches(asyncio.Event()):
        yield consumer, deliveries[0]
        break


async def test_parking_twice_parks_once_even_if_the_job_is_back_already(
    redis: Redis, delivery: tuple[StreamConsumer, Delivery]
) -> None:
    """As after a reply that was lost: the script ran, and is sent again."""
    consumer, entry = delivery
    stop = asyncio.Event()
    parking = Parking(redis, consumer)
    await parking.park(entry, b"job", 0.0, stop)
    assert await redis.zcard(PARKED) == 1
    assert await redis.xlen(INPUT) == 0
    async with asyncio.TaskGroup() as group:
        group.create_task(parking.return_due(stop))
        await until(lambda: redis.xlen(INPUT))
        stop.set()
    await parking.park(entry, b"job", 0.0, asyncio.Event())
    await settlements(redis, consumer).bury(entry, DID, {"repo": b"job"}, asyncio.Event())
    await settlements(redis, consumer).finish(entry, DID, Finished("done"), "", asyncio.Event())
    assert await redis.zcard(PARKED) == await redis.xlen(DLQ) == 0
    [(_, fields)] = await redis.xrange(INPUT)
    assert fields == {b"repo": b"job"}
    assert await Ledger(redis, INPUT).counts() == {}


async def test_what_is_not_due_stays_parked(redis: Redis) -> None:
    consumer = StreamConsumer(redis, INPUT, GROUP, "backfiller1", field="repo", batch_size=10)
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"])
    parking, stop = Parking(redis, consumer), asyncio.Event()
    async for later, sooner in consumer.batches(stop):
        await parking.park(later, b"later", 60.0, stop)
        await parking.park(sooner, b"sooner", 0.1, stop)
        break
    async with asyncio.TaskGroup() as group:
        group.create_task(parking.return_due(stop))
        await until(lambda: redis.xlen(INPUT))
        stop.set()
    assert [fields for _, fields in await redis.xrange(INPUT)] == [{b"repo": b"sooner"}]
    assert await redis.zrange(PARKED, 0, -1) == [b"later"]


async def test_a_full_redis_takes_parked_and_dead_jobs_all_the_same(redis_url: str, redis: Redis) -> None:
    """Otherwise the entries could not leave the stream, and Redis would stay full."""
    consumer = StreamConsumer(redis, INPUT, GROUP, "backfiller1", field="repo", batch_size=10)
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"])
    parking = Parking(redis, consumer)
    async for first, second in consumer.batches(asyncio.Event()):
        await redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(OutOfMemoryError):
                await redis.xadd(INPUT, {"repo": "x"})
            async with asyncio.timeout(5):
                await parking.park(first, b"job", 60.0, asyncio.Event())
                await settlements(redis, consumer).bury(second, DID, {"repo": b"job"}, asyncio.Event())
        finally:
            await redis.config_set("maxmemory", 0)
        break
    assert (await redis.zcard(PARKED), await redis.xlen(DLQ), await redis.xlen(INPUT)) == (1, 1, 0)


async def test_what_is_held_for_long_is_not_claimed_by_another(redis: Redis) -> None:
    mine, other = (
        StreamConsumer(redis, INPUT, GROUP, name, field="repo", batch_size=10, claim_idle_seconds=0.3)
        for name in ("backfiller1", "backfiller2")
    )
    await enqueue(redis, ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
    hold, stop = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        async for entries in mine.batches(asyncio.Event()):
            assert len(entries) == 1
            break
        group.create_task(mine.hold(hold))
        looks = []
        async for entries in other.batches(stop):  # a look without a find takes a second
            looks.append(len(entries))
            if len(looks) == 2:
                hold.set()
            if entries:
                stop.set()
    assert looks[:2] == [0, 0]
    assert looks[-1] == 1
