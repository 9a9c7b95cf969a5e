"""What several hosts tell of a repo is written once, in one step, whatever happens on the way."""

import asyncio

import pytest
from redis.asyncio import Redis

from common.streams import Fenced
from tests.proxy import Proxy
from tests.streaming import refusals
from tests.tellers import ALICE, Teller, events, jobs, rev, root, status, written
from tests.waiting import until


async def test_commits_that_fit_onto_each_other_are_written(redis: Redis, host: Teller) -> None:
    assert [await host.commit(number) for number in (1, 2, 3)] == ["n", "a", "a"]
    assert await written(redis) == [rev(1), rev(2), rev(3)]
    assert (await status(redis), await jobs(redis)) == ("w+", [])


async def test_a_commit_that_two_hosts_tell_is_written_once(redis: Redis, host: Teller, other: Teller) -> None:
    await host.commit(1)
    assert [await other.commit(1), await other.commit(2), await host.commit(2)] == ["d", "a", "d"]
    assert await written(redis) == [rev(1), rev(2)]
    assert [event["record"]["host"] for event in await events(redis)] == ["one.test", "two.test"]


async def test_the_commits_of_one_batch_are_judged_one_after_the_other(redis: Redis, host: Teller) -> None:
    assert await host.commits(1, 2, 2, 4, 3) == "nadxd"
    assert await written(redis) == [rev(1), rev(2), rev(4)]


async def test_a_commit_without_operations_fits_by_its_root(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    assert await host.commit(2, data=root(1), prev_data=root(1)) == "a"
    assert await host.commit(3, prev_data=root(1)) == "a"


async def test_commits_of_old_servers_fit_by_their_rev(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    assert await host.commit(2, prev_data=None) == "a"
    assert await host.commit(4, prev_data=None) == "x"


async def test_a_lost_reply_gives_the_same_verdicts_and_writes_nothing_twice(
    redis: Redis, shaky: Redis, proxy: Proxy
) -> None:
    host = Teller(shaky)
    await host.commit(1)
    proxy.lose_reply_to(b"EVALSHA")
    assert await host.commits(1, 2, 4) == "dax"
    assert proxy.cuts == 1
    assert await written(redis) == [rev(1), rev(2), rev(4)]
    assert await jobs(redis) == [(ALICE, "broken_chain")]


async def test_a_second_reader_of_one_host_is_fenced_and_moves_nothing(redis: Redis, host: Teller) -> None:
    await host.commit(1)
    late = Teller(redis, seq=7)
    with pytest.raises(Fenced):
        await late.commit(2)
    assert (await written(redis), await status(redis)) == ([rev(1)], "w+")


async def test_a_second_reader_whose_batch_ends_where_the_others_did_is_fenced(redis: Redis, host: Teller) -> None:
    late = Teller(redis)
    await host.commit(1)
    await host.commit(2)
    with pytest.raises(Fenced):
        await late.commits(1, 2)
    assert (await written(redis), await status(redis)) == ([rev(1), rev(2)], "w+")


async def test_a_cursor_that_is_set_back_writes_again_and_moves_nothing(redis: Redis, host: Teller) -> None:
    await host.identity()
    for number in (1, 2, 3):
        await host.commit(number)
    await host.set_back(0)
    assert [await host.identity(), await host.commit(1), await host.commit(2), await host.commit(3)] == [*"rrrr"]
    assert await host.commit(4) == "a"
    assert await written(redis) == [rev(number) for number in (1, 2, 3, 1, 2, 3, 4)]


async def test_a_cursor_that_is_deleted_begins_anew_and_writes_nothing_twice(redis: Redis, host: Teller) -> None:
    """As after a host has begun to count anew: its numbers say nothing of what we have."""
    host.seq = 100
    await host.commit(1)
    await redis.delete(host.cursor_key)
    host.seq, host.cursor = 0, ""
    assert [await host.commit(1), await host.commit(2)] == ["d", "a"]
    assert await host.commit(2) == "d"


async def test_a_full_redis_takes_all_of_it_or_nothing(own_redis: Redis) -> None:
    host = Teller(own_redis)
    await own_redis.config_set("maxmemory", 1)
    task = asyncio.create_task(host.commits(1, 3))
    await until(lambda: refusals(own_redis, "OOM"))
    assert await own_redis.keys() == []
    await own_redis.config_set("maxmemory", 0)
    assert await task == "nx"
    assert (len(await written(own_redis)), len(await jobs(own_redis))) == (2, 1)
