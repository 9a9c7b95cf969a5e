"""What became of every repo is known afterwards: its outcome, its counts, and when it is looked at again."""

import asyncio
import json

import pytest
from redis.asyncio import Redis

from backfiller import rechecks
from backfiller.ledger import Entry, Ledger
from backfiller.rechecks import Rechecks
from common.syntax import tid_at
from sluice.recording import Recording
from tests.backfilling import (
    DLQ,
    INPUT,
    OUTPUT,
    backfiller,
    enqueue,
    environment,
    host,
    idle,
    leaves,
    ours,
    output,
    refusal,
    work_off,
)
from tests.recorded_network import StartNetwork
from tests.waiting import until


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    return Ledger(redis, INPUT)


async def entry_of(ledger: Ledger, did: str) -> Entry:
    entry = await ledger.known(did, asyncio.Event())
    assert entry is not None
    return entry


async def test_the_outcome_of_every_repo_adds_up_to_its_leaves(
    network: StartNetwork, redis: Redis, redis_url: str, ledger: Ledger
) -> None:
    served = await network("full")
    repos = {repo.did: repo for repo in served.recording.repos}
    await enqueue(redis, repos)
    await work_off(redis, environment(redis_url, served.url))
    entries = {did: entry async for did, entry in ledger.entries()}
    assert entries.keys() == repos.keys()
    for did, repo in repos.items():
        entry = entries[did]
        assert (entry.outcome == "done") == repo.active
        if repo.active:
            paths = leaves(served.recording.car(did) or b"")
            assert entry.rev == repo.rev
            assert entry.emitted + entry.filtered + entry.failed == len(paths)
            assert entry.filtered == len(paths) - len(ours(paths))
    counts = await ledger.counts()
    assert sum(counts.values()) == len(repos)
    assert counts["done"] == sum(repo.active for repo in repos.values())
    absent = {did for did, repo in repos.items() if not repo.active}
    assert set(await redis.zrange(ledger.recheck_key, 0, -1)) == {did.encode() for did in absent}


async def test_a_repo_that_is_current_is_not_fetched_again(
    redis: Redis, redis_url: str, basic: Recording, ledger: Ledger
) -> None:
    repo = basic.repos[0]
    newer = tid_at(1_900_000_000_000_000)
    async with host() as pds:
        pds.serve(basic, repo.did)
        settings = environment(redis_url, pds.url)
        for rev, fetched in ((repo.rev, 1), (repo.rev, 1), ("", 2)):  # who names no rev, wants it in any case
            await enqueue(redis, [repo.did], rev=rev)
            await work_off(redis, settings)
            assert pds.requests[repo.did] == fetched
        before = await entry_of(ledger, repo.did)
        await enqueue(redis, [repo.did], rev=repo.rev)
        await work_off(redis, {**settings, "BACKFILLER_COLLECTIONS": "app.bsky.feed.like"})
        assert pds.requests[repo.did] == 3
        after = await entry_of(ledger, repo.did)
        assert (after.note != before.note, after.emitted < before.emitted) == (True, True)
        await enqueue(redis, [repo.did], rev=newer)
        await work_off(redis, {**settings, "BACKFILLER_MAX_RETRIES": "2"})
        assert pds.requests[repo.did] == 5
    [(_, letter)] = await redis.xrange(DLQ)
    assert letter[b"error"] == b"stale_repo"
    assert [line.split()[1] for line in json.loads(letter[b"repo"])["history"]] == ["stale_repo"] * 2
    assert (await entry_of(ledger, repo.did)).outcome == "dead_lettered"
    assert await ledger.counts() == {"dead_lettered": 1}


async def test_a_host_that_has_gone_back_in_time_is_not_believed(
    redis: Redis, redis_url: str, basic: Recording, ledger: Ledger
) -> None:
    """It serves a repo that is signed, and older than what it served before."""
    repo = basic.repos[0]
    async with host() as pds:
        pds.serve(basic, repo.did)
        newer = Entry("done", tid_at(1_900_000_000_000_000), 1)
        await ledger.write(repo.did, newer)
        assert await ledger.counts() == {"done": 1}
        await enqueue(redis, [repo.did])
        await work_off(redis, environment(redis_url, pds.url, BACKFILLER_MAX_RETRIES="1"))
    [(_, letter)] = await redis.xrange(DLQ)
    assert letter[b"error"] == b"stale_repo"
    assert await redis.xlen(OUTPUT) == 0


async def test_a_repo_that_was_not_to_be_had_is_looked_at_again_in_time(
    redis: Redis, redis_url: str, basic: Recording, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rechecks, "LOOK_SECONDS", 0.05)
    did = basic.repos[0].did
    async with host() as pds:
        pds.serve(basic, did, refusal("RepoDeactivated"))
        settings = environment(redis_url, pds.url)
        await enqueue(redis, [did])
        async with backfiller(settings):
            await until(lambda: idle(redis))
            assert (await entry_of(ledger, did)).outcome == "repo_deactivated"
            [(_, due)] = await redis.zrange(ledger.recheck_key, 0, -1, withscores=True)
            assert 604_000 < due - (await redis.time())[0] <= 604_800
            assert pds.requests[did] == 1
            await redis.zadd(ledger.recheck_key, {did: 1})  # a week later
            await until(lambda: pds.requests[did] == 2)
            await until(lambda: idle(redis))
    assert (await entry_of(ledger, did)).outcome == "done"
    assert await ledger.counts() == {"done": 1}
    assert await redis.zcard(ledger.recheck_key) == 0
    assert (await output(redis))[did].whole


async def test_many_that_look_queue_a_recheck_once(redis: Redis, ledger: Ledger) -> None:
    dids = [f"did:plc:aaaaaaaaaaaaaaaaaaaaa{a}{b}{c}" for a in "abcdefgh" for b in "abcdefgh" for c in "abcdefgh"]
    await redis.zadd(ledger.recheck_key, dict.fromkeys(dids, 1) | {"did:plc:later": 4e9})
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(Rechecks(redis, INPUT, ledger.recheck_key).run(stop))

        async def none_is_due() -> bool:
            return await redis.zcard(ledger.recheck_key) == 1

        await until(none_is_due)
        stop.set()
    jobs = [json.loads(fields[b"repo"]) for _, fields in await redis.xrange(INPUT)]
    assert sorted(job["did"] for job in jobs) == sorted(dids)
    assert {job["reason"] for job in jobs} == {"recheck"}
