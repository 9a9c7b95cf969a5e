"""`sluice backfill --car`: files become the snapshots that a download would be, or are refused."""

from pathlib import Path

from redis.asyncio import Redis

from backfiller.ledger import Ledger
from common.repo_states import RepoStates
from common.syntax import tid_at
from sluice.recording import Recording
from tests.backfilling import (
    INPUT,
    OUTPUT,
    host,
    leaves,
    of_an_operator,
    ours,
    output,
)
from tests.commands import sluice
from tests.recorded_network import StartNetwork
from tests.signed_repos import Signer, record, repo
from tests.tellers import Teller


async def test_car_files_become_the_snapshots_that_a_download_would_be(
    network: StartNetwork, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    served = await network("basic")
    dids = [repo.did for repo in served.recording.repos if repo.active]
    cars = {did: served.recording.car(did) or b"" for did in dids}
    for did, car in cars.items():
        (tmp_path / f"{did.replace(':', '_')}.car").write_bytes(car)
    here = of_an_operator(redis_url, served.url)
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
    current, behind = served.recording.repos[:2]
    for listed in (current, behind):
        (tmp_path / f"{listed.did.replace(':', '_')}.car").write_bytes(served.recording.car(listed.did) or b"")
    relay = Teller(redis)
    await relay.loss(did=current.did)
    await relay.commit(1, behind.did, rev=tid_at(1_900_000_000_000_000))
    await relay.commit(3, behind.did, rev=tid_at(1_900_000_000_000_001))
    states = RepoStates(redis)
    assert (await states.counts()).desynchronised == 2
    ended = await sluice("backfill", "--car", ".", folder=tmp_path, environ=of_an_operator(redis_url, served.url))
    assert ended.code == 1
    assert f"{behind.did.replace(':', '_')}.car  stale_repo" in ended.error.replace("\n", "")
    assert (await states.counts()).desynchronised == 1
    assert await Ledger(redis, INPUT).counts() == {"done": 1}
    found = await output(redis)
    assert found[current.did].whole
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
        ended = await sluice("backfill", "--car", ".", folder=tmp_path, environ=of_an_operator(redis_url, plc.url))
    assert ended.code == 1
    assert "1 of 3 files are loaded" in ended.out
    assert "cut.car  truncated_car" in ended.error
    assert "forged.car  bad_signature" in ended.error
    assert (await output(redis)).keys() == {good}
