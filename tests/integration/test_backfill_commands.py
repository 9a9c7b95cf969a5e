"""`sluice backfill`, `resync` and `status backfill` as an operator runs them, against a Redis and hosts on loopback."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from backfiller.ledger import Ledger
from common.repo_states import RepoStates
from common.syntax import tid_at
from sluice.recording import Recording
from tests.backfilling import (
    HIGH,
    INPUT,
    OUTPUT,
    StartNetwork,
    backfiller,
    environment,
    host,
    idle,
    leaves,
    ours,
    output,
    refusal,
)
from tests.commands import sluice
from tests.signed_repos import Signer, record, repo
from tests.tellers import Teller
from tests.waiting import until

DIDS = [f"did:plc:aaaaaaaaaaaaaaaaaaaaaaa{letter}" for letter in "abcdefghijklm"]


async def jobs(redis: Redis, stream: str) -> list[dict[str, Any]]:
    return [json.loads(fields[b"repo"]) for _, fields in await redis.xrange(stream)]


def environ(redis_url: str, *origins: str) -> dict[str, str]:
    settings = environment(redis_url, *(origins or ("http://127.0.0.1:9",)))
    return {name: value for name, value in settings.items() if name != "BACKFILLER_CONSUMER"}


# queueing


async def test_named_repos_are_urgent_and_a_file_is_not_unless_it_is_asked_for(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    here = environ(redis_url)
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
    ended = await sluice("backfill", *arguments, folder=tmp_path, environ=environ(redis_url))
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
        here = environ(redis_url, relay.url)
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


async def test_a_collection_is_asked_of_the_relay_by_its_name(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    async with lists() as relay:
        wanted = ("backfill", "--collection", "app.bsky.feed.generator", "--relay", relay.url)
        ended = await sluice(*wanted, folder=tmp_path, environ=environ(redis_url, relay.url))
    assert ended.code == 0
    assert {query["collection"] for query in relay.queries} == {"app.bsky.feed.generator"}
    assert [job["did"] for job in await jobs(redis, INPUT)] == DIDS


async def test_who_waits_is_told_what_became_of_each(
    redis: Redis, redis_url: str, basic: Recording, tmp_path: Path
) -> None:
    good, gone = (repo.did for repo in basic.repos[:2])
    async with host() as pds:
        pds.serve(basic, good)
        pds.serve(basic, gone, refusal("RepoTakendown"))
        here = environ(redis_url, pds.url)
        async with backfiller(environment(redis_url, pds.url)):
            first = await sluice("resync", good, "--wait", folder=tmp_path, environ=here)
            again = await sluice("resync", good, gone, "--wait", folder=tmp_path, environ=here)
        assert pds.requests[good] == 2
    count = len(leaves(basic.car(good) or b""))
    assert (first.code, again.code) == (0, 1)
    assert f"{good}  done at" in first.out
    assert f"{count:,} records = " in first.out
    assert f"{gone}  repo_takendown" in again.out
    status = await sluice("status", "backfill", good, gone, DIDS[0], "--json", folder=tmp_path, environ=here)
    assert status.code == 1
    known = status.result
    assert (known[good]["outcome"], known[gone]["outcome"], known[DIDS[0]]) == ("done", "repo_takendown", None)


# CAR files


async def test_car_files_become_the_snapshots_that_a_download_would_be(
    network: StartNetwork, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    served = await network("basic")
    dids = [repo.did for repo in served.recording.repos if repo.active]
    cars = {did: served.recording.car(did) or b"" for did in dids}
    for did, car in cars.items():
        (tmp_path / f"{did.replace(':', '_')}.car").write_bytes(car)
    here = environ(redis_url, served.url)
    ended = await sluice("backfill", "--car", ".", folder=tmp_path, environ=here)
    assert ended.code == 0, ended.error
    found = await output(redis)
    assert found.keys() == cars.keys()
    assert all(found[did].whole and found[did].in_order for did in dids)
    assert all(found[did].paths == ours(leaves(car)) for did, car in cars.items())
    length = await redis.xlen(OUTPUT)
    ended = await sluice("backfill", "--car", ".", folder=tmp_path, environ=here)
    assert (ended.code, await redis.xlen(OUTPUT)) == (0, length)  # loaded already
    ended = await sluice("backfill", "--car", ".", "--force", folder=tmp_path, environ=here)
    assert (ended.code, await redis.xlen(OUTPUT)) == (0, 2 * length)
    assert await Ledger(redis, INPUT).counts() == {"done": len(dids)}


async def test_a_car_file_brings_its_repo_in_step_unless_it_is_older_than_what_was_missed(
    network: StartNetwork, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    served = await network("basic")
    whole, behind = served.recording.repos[:2]
    for listed in (whole, behind):
        (tmp_path / f"{listed.did.replace(':', '_')}.car").write_bytes(served.recording.car(listed.did) or b"")
    relay = Teller(redis)
    await relay.loss(did=whole.did)
    await relay.commit(1, behind.did, rev=tid_at(1_900_000_000_000_000))
    await relay.commit(3, behind.did, rev=tid_at(1_900_000_000_000_001))
    states = RepoStates(redis)
    assert (await states.counts()).desynchronised == 2
    ended = await sluice("backfill", "--car", ".", folder=tmp_path, environ=environ(redis_url, served.url))
    assert ended.code == 1
    assert f"{behind.did.replace(':', '_')}.car  stale_repo" in ended.error.replace("\n", "")
    assert (await states.counts()).desynchronised == 1
    assert await Ledger(redis, INPUT).counts() == {"done": 1}
    found = await output(redis)
    assert found[whole.did].whole
    assert found[behind.did].whole  # what it has is taken


async def test_a_car_file_that_is_cut_or_forged_is_refused_and_the_others_are_loaded(
    redis: Redis, redis_url: str, basic: Recording, tmp_path: Path
) -> None:
    good, cut, forged = (repo.did for repo in basic.repos[:3])
    (tmp_path / "good.car").write_bytes(basic.car(good) or b"")
    (tmp_path / "cut.car").write_bytes((basic.car(cut) or b"")[:-1])
    (tmp_path / "forged.car").write_bytes(repo({"app.bsky.feed.post/a": record("not mine")}, Signer(), did=forged))
    async with host() as plc:
        for did in (good, cut, forged):
            plc.document(basic, did, plc.url)
        ended = await sluice("backfill", "--car", ".", folder=tmp_path, environ=environ(redis_url, plc.url))
    assert ended.code == 1
    assert "1 of 3 files are loaded" in ended.out
    assert "cut.car  truncated_car" in ended.error
    assert "forged.car  bad_signature" in ended.error
    assert (await output(redis)).keys() == {good}


# how it stands


async def test_the_plan_shows_hosts_their_shares_and_when_they_are_done(
    redis: Redis, redis_url: str, basic: Recording, tmp_path: Path
) -> None:
    did, *others = (repo.did for repo in basic.repos)
    async with host() as pds:
        pds.serve(basic, did, web.Response(status=429, headers={"Retry-After": "1000"}))
        here = environ(redis_url, pds.url)
        await sluice("resync", did, folder=tmp_path, environ=here)
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: redis.zcard(f"{HIGH}:parked"))
        (tmp_path / "dids").write_text("\n".join(others))
        await sluice("backfill", "--file", "dids", folder=tmp_path, environ=here)
        for other in others:
            await redis.set(f"did:pds:{other}", "https://other.test")
        ended = await sluice("status", "backfill", "--json", folder=tmp_path, environ=here)
        shown = await sluice("status", "backfill", folder=tmp_path, environ=here)
    status = ended.result
    assert status["waiting"] == {"repo_backfill_high": 0, "repo_backfill": len(others)}
    assert status["parked"] == 1
    plans = {plan["host"]: plan for plan in status["hosts"]}
    assert {name: plan["jobs"] for name, plan in plans.items()} == {"https://other.test": len(others), pds.url: 1}
    assert plans[pds.url]["state"] == "at rest"
    assert 900 < plans[pds.url]["eta_seconds"] < 1010
    assert plans["https://other.test"]["requests_per_second"] == 1000
    assert "16 min" in shown.out
    assert "at rest" in shown.out


async def test_what_came_of_all_is_counted_by_outcome(
    redis: Redis, redis_url: str, basic: Recording, tmp_path: Path
) -> None:
    good, gone = (repo.did for repo in basic.repos[:2])
    async with host() as pds:
        pds.serve(basic, good)
        here = environ(redis_url, pds.url)
        await sluice("resync", good, gone, folder=tmp_path, environ=here)
        async with backfiller(environment(redis_url, pds.url)):
            await until(lambda: idle(redis))
        status = (await sluice("status", "backfill", "--json", folder=tmp_path, environ=here)).result
    assert status["outcomes"] == {"did_not_found": 1, "done": 1}
    assert status["rechecks"] == 1
    assert status["output"] == len(ours(leaves(basic.car(good) or b""))) + 1


async def test_a_redis_that_does_not_answer_is_said_so(tmp_path: Path) -> None:
    for command in (["backfill", DIDS[0]], ["status", "backfill"], ["dead", "list", "--kind", "repo"]):
        ended = await sluice(*command, folder=tmp_path, environ={"REDIS_URL": "redis://127.0.0.1:9"})
        assert ended.code == 2
        assert "redis does not answer" in ended.error
