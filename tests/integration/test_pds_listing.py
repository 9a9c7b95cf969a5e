"""The hosts that a relay knows, and the repos of each: what one of them does costs the others nothing."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from common.backpressure import Room
from common.outbound import Outbound
from common.streams import REPO_BACKFILL, StreamWriter
from ingester import host_listing, pds_listing, repo_listing
from ingester.accounts import LISTING, Account
from ingester.cursors import LISTING_DONE, cursor_key
from ingester.gaps import GapLedger
from ingester.host_listing import HOSTS_DUE, HostListing
from ingester.pages import RepoPages
from ingester.pds_listing import PdsListings
from ingester.repo_listing import Listed, RepoListing
from sluice.network import RecordedNetwork
from tests.ingesting import StartIngester, host, recorded
from tests.listing_hosts import none
from tests.recorded_network import StartNetwork
from tests.waiting import until

KEY = "ingester:hosts:cursor:relay"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are shortened; what is waited for is as it is."""
    for module in (repo_listing, host_listing):
        monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(pds_listing, "LOOK_SECONDS", 0.01)


async def list_hosts(redis: Redis, relay: RecordedNetwork) -> None:
    async with Outbound(allow=[host(relay)]) as outbound:
        listing = HostListing(redis, outbound, relay.url, key=KEY, account=Account(LISTING))
        async with asyncio.timeout(20):
            assert await listing.to_its_end(asyncio.Event())


async def due(redis: Redis) -> dict[str, float]:
    found: Any = await redis.zrange(HOSTS_DUE, 0, -1, withscores=True)
    return {name.decode(): at for name, at in found}


@asynccontextmanager
async def pds_listings(
    redis: Redis, *vouched_for: RecordedNetwork, repeat_seconds: float = 0.0, at_once: int = 2, **listed: Any
) -> AsyncIterator[None]:
    stop = asyncio.Event()
    allowed = [host(each) for each in vouched_for]
    async with Outbound(allow=allowed) as outbound, asyncio.TaskGroup() as tasks:

        def listing_of(name: str) -> RepoListing:
            room = Room(redis, REPO_BACKFILL, 100_000)
            return RepoListing(
                redis,
                RepoPages(outbound, f"{'http' if name in allowed else 'https'}://{name}"),
                Listed(
                    **{"host": name, "key": cursor_key(REPO_BACKFILL, name), "are_current": none, "tries": 2} | listed
                ),
                writer=StreamWriter(redis, REPO_BACKFILL, "repo", room),
                room=room,
                account=Account(LISTING),
                ledger=GapLedger(redis),
            )

        service = PdsListings(redis, listing_of, at_once=at_once, repeat_seconds=repeat_seconds)
        tasks.create_task(service.run(stop))
        yield
        stop.set()


async def dids(redis: Redis) -> list[str]:
    entries: Any = await redis.xrange(REPO_BACKFILL)
    return [json.loads(fields[b"repo"])["did"] for _, fields in entries]


async def put_off(redis: Redis) -> list[str]:
    """Those that failed, and are due again in an hour."""
    return [name for name, at in (await due(redis)).items() if 3000 < at - time.time() <= 3600]


async def test_the_hosts_of_a_relay_are_due_and_those_that_are_gone_are_not(
    redis: Redis, network: StartNetwork
) -> None:
    relay = await network("basic")
    relay.lists.known_hosts = [
        {"hostname": "PDS.example.com", "status": "active"},
        {"hostname": "idle.example.com", "status": "idle"},
        {"hostname": "new.example.com", "status": "something new"},
        {"hostname": "quiet.example.com"},
        {"hostname": "banned.example.com", "status": "banned"},
        {"hostname": "offline.example.com", "status": "offline"},
        {"hostname": "evil.example.com/xrpc"},
        {"hostname": "user:word@evil.example.com"},
        {"hostname": 5},
        "text",
    ]
    await list_hosts(redis, relay)
    names = ("idle.example.com", "new.example.com", "pds.example.com", "quiet.example.com")
    assert await due(redis) == dict.fromkeys(names, 0.0)
    assert await redis.get(KEY) == LISTING_DONE.encode()


async def test_hosts_come_in_pages_and_a_failing_page_is_asked_for_again(
    redis: Redis, network: StartNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_listing, "PAGE_HOSTS", 2)
    relay = await network("basic")
    relay.lists.known_hosts = [{"hostname": f"pds{number}.example.com"} for number in range(5)]
    relay.faults.statuses["listHosts?limit=2&cursor=2"] = 503

    async def heal() -> None:
        await until(lambda: relay.requests["/xrpc/com.atproto.sync.listHosts"] > 2)
        relay.faults.statuses.clear()

    monkeypatch.setattr(host_listing, "LONGEST_WAIT_SECONDS", 0.01)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(heal())
        await list_hosts(redis, relay)
    assert len(await due(redis)) == 5


async def test_a_host_that_is_known_keeps_its_time(redis: Redis, network: StartNetwork) -> None:
    relay = await network("basic")
    relay.lists.known_hosts = [{"hostname": "pds.example.com"}]
    await redis.zadd(HOSTS_DUE, {"pds.example.com": 17})
    await list_hosts(redis, relay)
    assert await due(redis) == {"pds.example.com": 17.0}


async def test_a_relay_without_end_is_cut_off(
    redis: Redis, network: StartNetwork, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host_listing, "PAGE_HOSTS", 2)
    monkeypatch.setattr(host_listing, "MAX_HOSTS", 3)
    relay = await network("basic")
    relay.lists.known_hosts = [{"hostname": f"pds{number}.example.com"} for number in range(9)]
    await list_hosts(redis, relay)
    assert len(await due(redis)) == 2
    assert "more hosts than there can be" in caplog.text


async def test_every_pds_is_listed_and_one_that_fails_is_put_off(redis: Redis, network: StartNetwork) -> None:
    one, two, broken = await network("basic"), await network("follows"), await network("full")
    broken.faults.statuses["listRepos"] = 500
    await redis.zadd(HOSTS_DUE, {host(each): 0 for each in (broken, one, two)})
    async with pds_listings(redis, one, two, broken):

        async def is_settled() -> bool:
            at = await due(redis)
            return await put_off(redis) == [host(broken)] and at[host(one)] == at[host(two)] == math.inf

        await until(is_settled)
    repos = [repo.did for each in (one, two) for repo in each.recording.repos]
    assert sorted(await dids(redis)) == sorted(repos)
    assert await redis.get(cursor_key(REPO_BACKFILL, host(one))) is None


async def test_a_pds_is_listed_again_when_its_time_has_come(redis: Redis, network: StartNetwork) -> None:
    pds = await network("basic")
    await redis.zadd(HOSTS_DUE, {host(pds): 0})
    async with pds_listings(redis, pds, repeat_seconds=0.05):
        await until(lambda: pds.requests["/xrpc/com.atproto.sync.listRepos"] > 5)  # each listing asks twice at most


async def test_a_host_that_was_in_hand_at_the_stop_is_due_again(redis: Redis, network: StartNetwork) -> None:
    pds = await network("basic")
    pds.faults.statuses["listRepos"] = 500
    await redis.zadd(HOSTS_DUE, {host(pds): 0})
    async with pds_listings(redis, pds, tries=0):
        await until(lambda: pds.requests)
        assert (await due(redis))[host(pds)] > time.time()
    assert await due(redis) == {host(pds): 0.0}


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.1:8080", "localhost", "10.0.0.5", "[::1]", "169.254.169.254"])
async def test_a_host_that_is_not_of_the_internet_is_not_asked(redis: Redis, name: str) -> None:
    await redis.zadd(HOSTS_DUE, {name: 0})

    async def is_put_off() -> bool:
        return await put_off(redis) == [name]

    async with pds_listings(redis):
        await until(is_put_off)
    assert await dids(redis) == []


async def test_the_network_is_found_host_by_host(redis: Redis, network: StartNetwork, ingester: StartIngester) -> None:
    relay, pds = await network("basic"), await network("follows")
    relay.lists.known_hosts = [{"hostname": host(pds)}, {"hostname": "10.0.0.5"}]
    daemon = await ingester(
        INGESTER_MODE="backfill",
        INGESTER_RELAY_HOSTS="",
        INGESTER_LIST_HOSTS_OF=relay.websocket_url,
        OUTBOUND_ALLOW=host(pds),
    )

    async def is_found() -> bool:
        return sorted(await dids(redis)) == sorted(repo.did for repo in pds.recording.repos)

    await until(is_found)
    assert (await daemon.metrics()).unaccounted == 0
    assert await daemon.end() == 0


async def test_a_collection_signals_the_repos_that_are_wanted(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    relay = await network("full")
    collection = "app.bsky.labeler.service"
    await ingester(relay, INGESTER_MODE="backfill", INGESTER_LISTING_COLLECTION=collection)

    async def is_listed() -> bool:
        return await redis.get(cursor_key(REPO_BACKFILL, host(relay))) == LISTING_DONE.encode()

    await until(is_listed)
    wanted = {event[2] for event in recorded(relay.recording.frames) if event[3].startswith(collection)}
    assert set(await dids(redis)) == wanted
    assert 0 < len(wanted) < len(relay.recording.repos)
