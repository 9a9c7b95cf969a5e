"""What `sluice status backfill` and `sluice resync --wait` tell of repos, hosts and outcomes."""

from pathlib import Path

from aiohttp import web
from redis.asyncio import Redis

from sluice.recording import Recording
from tests.backfilling import (
    HIGH,
    backfiller,
    environment,
    host,
    leaves,
    of_an_operator,
    ours,
    refusal,
    work_off,
)
from tests.commands import sluice
from tests.waiting import until

STRANGER = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


async def test_who_waits_is_told_what_became_of_each(
    redis: Redis, redis_url: str, basic: Recording, tmp_path: Path
) -> None:
    good, gone = (repo.did for repo in basic.repos[:2])
    async with host() as pds:
        pds.serve(basic, good)
        pds.serve(basic, gone, refusal("RepoTakendown"))
        here = of_an_operator(redis_url, pds.url)
        async with backfiller(environment(redis_url, pds.url)):
            first = await sluice("resync", good, "--wait", folder=tmp_path, environ=here)
            again = await sluice("resync", good, gone, "--wait", folder=tmp_path, environ=here)
        assert pds.requests[good] == 2
    count = len(leaves(basic.car(good) or b""))
    assert (first.code, again.code) == (0, 1)
    assert f"{good}  done at" in first.out
    assert f"{count:,} records = " in first.out
    assert f"{gone}  repo_takendown" in again.out
    status = await sluice("status", "backfill", good, gone, STRANGER, "--json", folder=tmp_path, environ=here)
    assert status.code == 1
    known = status.result
    assert (known[good]["outcome"], known[gone]["outcome"], known[STRANGER]) == ("done", "repo_takendown", None)


async def test_the_plan_shows_hosts_their_shares_and_when_they_are_done(
    redis: Redis, redis_url: str, basic: Recording, tmp_path: Path
) -> None:
    did, *others = (repo.did for repo in basic.repos)
    async with host() as pds:
        pds.serve(basic, did, web.Response(status=429, headers={"Retry-After": "1000"}))
        here = of_an_operator(redis_url, pds.url)
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
        here = of_an_operator(redis_url, pds.url)
        await sluice("resync", good, gone, folder=tmp_path, environ=here)
        await work_off(redis, environment(redis_url, pds.url))
        status = (await sluice("status", "backfill", "--json", folder=tmp_path, environ=here)).result
    assert status["outcomes"] == {"did_not_found": 1, "done": 1}
    assert status["rechecks"] == 1
    assert status["output"] == len(ours(leaves(basic.car(good) or b""))) + 1
