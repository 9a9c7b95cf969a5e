"""The backfiller as a process that is killed, told to stop, or told nonsense."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from redis.asyncio import Redis

from backfiller.ledger import Ledger
from common.chain import KEY
from common.events import StreamEvent, decode_event
from common.repo_states import Counts, RepoStates
from sluice.server import free_port
from tests.backfilling import (
    DLQ,
    INPUT,
    OUTPUT,
    PARKED,
    OpenRecording,
    enqueue,
    environment,
    host,
    idle,
    leaves,
    ours,
    output,
    silence,
    whole,
)
from tests.indexing import Index
from tests.proxy import Proxy
from tests.recorded_network import StartNetwork
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def process(environ: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "backfiller"),
        env={**os.environ, "BACKFILLER_METRICS_PORT": str(free_port()), **environ},
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def test_after_kill_9_every_repo_is_done(network: StartNetwork, redis: Redis, redis_url: str) -> None:
    """Killed twice: with the output full in the middle of some repos, and with downloads under way."""
    served = await network("load-tiny")
    dids = [repo.did for repo in served.recording.repos if repo.active]
    await enqueue(redis, dids)
    settings = environment(redis_url, served.url, BACKFILLER_CONCURRENCY="4")
    mark = 300

    async def output_is_full() -> bool:
        return await redis.xlen(OUTPUT) >= mark

    async with process({**settings, "BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK": str(mark)}) as running:
        await until(output_is_full)
        running.kill()
        assert await running.wait() == -signal.SIGKILL
    assert await redis.xlen(INPUT) + await redis.zcard(PARKED) > 0
    served.faults.serving_repos.clear()
    asked = served.requests.total()
    async with process(settings) as running:
        await until(lambda: served.requests.total() > asked)
        running.kill()
        await running.wait()
    served.faults.serving_repos.set()
    async with process(settings):
        await until(lambda: idle(redis))
    found = await output(redis)
    for did in dids:
        assert found[did].whole
        assert found[did].in_order
        assert found[did].paths == ours(leaves(served.recording.car(did) or b""))
    assert await redis.xlen(DLQ) == 0


@pytest.mark.parametrize("point", ["claimed", "resolved", "half a download", "half of the output"])
async def test_killed_at_any_point_the_repo_in_hand_is_done_again_and_counts_once(
    point: str, redis: Redis, redis_url: str, recording: OpenRecording
) -> None:
    tiny = recording("load-tiny")
    did = max((repo.did for repo in tiny.repos if repo.active), key=lambda did: len(tiny.car(did) or b""))
    car = tiny.car(did) or b""
    reached = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(car))})
        if point == "half a download":
            await response.prepare(request)
            await response.write(car[: len(car) // 2])
        reached.set()
        return await silence(request)

    async def claimed() -> bool:
        return pds.requests["plc"] > 0

    async def half_is_out() -> bool:
        return await redis.xlen(OUTPUT) >= 10

    async with host() as pds:
        answers = [answer] if point in ("resolved", "half a download") else []
        pds.serve(tiny, did, *answers)
        if point == "claimed":
            pds.answers_lookups.clear()
        await enqueue(redis, [did])
        settings = environment(redis_url, pds.url)
        small = {"BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK": "10", "BACKFILLER_BATCH_SIZE": "5"}
        async with process({**settings, **(small if point == "half of the output" else {})}) as running:
            await {"claimed": lambda: until(claimed), "half of the output": lambda: until(half_is_out)}.get(
                point, reached.wait
            )()
            running.kill()
            assert await running.wait() == -signal.SIGKILL
        assert await redis.xlen(INPUT) == 1
        assert await Ledger(redis, INPUT).counts() == {}
        pds.answers_lookups.set()
        async with process(settings):
            await until(lambda: idle(redis))
        found = (await output(redis))[did]
        assert (found.whole, found.paths) == (True, ours(leaves(car)))
        assert await Ledger(redis, INPUT).counts() == {"done": 1}
        assert not await redis.xlen(DLQ)


# by a key, or the beginning of a value, that only the script that comes next is given
NEXT = {"what is known of the repo": f"{KEY}:", "the ack": "\r\ndone "}


@pytest.mark.parametrize("step", NEXT)
async def test_killed_between_the_last_output_and_the_next_step_all_are_done_and_nothing_is_there_twice(
    step: str, *, redis: Redis, redis_url: str, recording: OpenRecording, index: Index, other_index: Index
) -> None:
    """Everything is on the output, and nobody has written down that it is."""
    tiny = recording("load-tiny")
    dids = [repo.did for repo in tiny.repos if repo.active][:12]

    async def all_are_out() -> bool:
        found = await output(redis)
        return proxy.held >= len(dids) and all(found[did].whole for did in dids)

    async with host() as pds, Proxy(redis_url) as proxy:
        for did in dids:
            pds.serve(tiny, did)
        proxy.hold(NEXT[step].encode())
        await enqueue(redis, dids)
        async with process(environment(proxy.url, pds.url)) as running:
            await until(all_are_out)
            running.kill()
            assert await running.wait() == -signal.SIGKILL
        once = await entries(redis)
        in_step = await RepoStates(redis).read(dids)
        assert [bool(state) for state in in_step] == [step == "the ack"] * len(dids)
        assert await redis.xlen(INPUT) == len(dids)
        assert await Ledger(redis, INPUT).counts() == {}
        async with process(environment(redis_url, pds.url)):
            await until(lambda: idle(redis))
    assert await Ledger(redis, INPUT).counts() == {"done": len(dids)}
    assert not await redis.xlen(DLQ)
    assert all(await RepoStates(redis).read(dids))
    assert await RepoStates(redis).counts() == Counts(repos=len(dids), desynchronised=0)
    twice = await entries(redis)
    assert len(twice) == 2 * len(once)
    await index.apply(*twice)
    await other_index.apply(*once)
    untimed = {"*": ["indexedAt", "sortAt"]}
    assert await index.everything(without=untimed) == await other_index.everything(without=untimed)


async def entries(redis: Redis) -> list[StreamEvent]:
    return [decode_event(fields[b"event"]) for _, fields in await redis.xrange(OUTPUT)]


async def test_sigterm_ends_it_with_0_within_the_grace_and_the_work_is_kept(
    network: StartNetwork, redis: Redis, redis_url: str
) -> None:
    served = await network("basic")
    dids = [repo.did for repo in served.recording.repos]
    served.faults.serving_repos.clear()
    await enqueue(redis, dids)
    settings = environment(redis_url, served.url, GRACE_SECONDS="0.5")

    async with process(settings) as running:
        await until(lambda: any("getRepo" in path for path in served.requests))
        running.terminate()
        async with asyncio.timeout(5):
            assert await running.wait() == 0
    assert await redis.xlen(INPUT) + await redis.zcard(PARKED) == len(dids)
    served.faults.serving_repos.set()
    async with process(settings) as running:
        await until(lambda: idle(redis))
        running.terminate()
        async with asyncio.timeout(5):
            assert await running.wait() == 0
    assert await whole(redis) == set(dids)


async def test_a_setting_that_cannot_be_meant_stops_the_start(redis_url: str) -> None:
    settings = environment(redis_url, "http://127.0.0.1:1")
    for change, complaint in (
        ({"BACKFILLER_COLLECTIONS": "app.bsky"}, b"BACKFILLER_COLLECTIONS"),
        ({"BACKFILLER_CONCURENCY": "5"}, b"BACKFILLER_CONCURENCY is unknown"),
        ({"BACKFILLER_MEMORY_SHARE": "80"}, b"BACKFILLER_MEMORY_SHARE"),
        ({"OUTBOUND_ALLOW": "localhost"}, b"OUTBOUND_ALLOW"),
    ):
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "backfiller"), env={**os.environ, **settings, **change}, cwd=ROOT, stderr=-1
        )
        _, complaints = await running.communicate()
        assert running.returncode == 2
        assert complaint in complaints
