"""Turns at a PDS: how many at once, who waits, who is sent away and for how long."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from backfiller import hosts as hosts_module
from backfiller.hosts import Hosts
from common.errors import TryLater


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def refused(hosts: Hosts, name: str) -> TryLater:
    with pytest.raises(TryLater) as refusal:
        async with hosts.turn(name):
            pass
    return refusal.value


async def test_a_host_has_a_few_turns_and_another_host_its_own(clock: Clock) -> None:
    hosts = Hosts(2, 2, clock)
    async with AsyncExitStack() as stack:
        for name in ("a", "a", "b", "b"):
            await stack.enter_async_context(hosts.turn(name))
        assert (await refused(hosts, "a")).reason == "host_busy"
    async with hosts.turn("a"):
        pass


async def test_some_wait_for_their_turn_and_get_it(clock: Clock) -> None:
    hosts = Hosts(1, 2, clock)
    order: list[str] = []

    async def take(name: str) -> None:
        async with hosts.turn("a"):
            order.append(name)

    async with asyncio.TaskGroup() as group, hosts.turn("a"):
        group.create_task(take("second"))
        await asyncio.sleep(0)
        assert order == []
        assert (await refused(hosts, "a")).reason == "host_busy"
    assert order == ["second"]


async def test_who_is_sent_away_comes_back_one_after_the_other_at_the_pace_of_the_host(clock: Clock) -> None:
    hosts = Hosts(1, 1, clock)
    for _ in range(50):
        async with hosts.turn("a"):
            clock.now += 10.0
    async with hosts.turn("a"):
        waits = [(await refused(hosts, "a")).seconds or 0.0 for _ in range(1000)]
    assert waits[:3] == pytest.approx([8.0, 16.0, 24.0], rel=0.01)
    assert max(waits) == 3600.0


async def test_a_turn_that_fails_counts_for_the_pace_too(clock: Clock) -> None:
    hosts = Hosts(1, 1, clock)

    async def time_out() -> None:
        async with hosts.turn("a"):
            clock.now += 60.0
            raise TimeoutError

    for _ in range(50):
        with pytest.raises(TimeoutError):
            await time_out()
    async with hosts.turn("a"):
        assert ((await refused(hosts, "a")).seconds or 0.0) > 40.0


async def test_a_host_at_rest_is_left_alone_until_its_time_also_by_those_who_wait(clock: Clock) -> None:
    hosts = Hosts(1, 3, clock)
    async with asyncio.TaskGroup() as group, hosts.turn("a"):
        waiting = group.create_task(refused(hosts, "a"))
        await asyncio.sleep(0)
        hosts.rest("a", 60.0)
    assert waiting.result().reason == "host_at_rest"
    hosts.rest("b", 60.0)
    hosts.rest("b", 10.0)
    assert ((await refused(hosts, "b")).seconds or 0.0) > 60.0
    assert hosts.at_rest() == 2
    clock.now += 60.0
    async with hosts.turn("a"):
        assert hosts.at_rest() == 0


async def test_idle_hosts_are_forgotten_and_those_in_use_are_not(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "MAX_REMEMBERED", 10)
    hosts = Hosts(1, 1, clock)
    hosts.rest("resting", 60.0)
    async with hosts.turn("used"):
        for number in range(100):
            async with hosts.turn(f"host{number}"):
                pass
        assert (await refused(hosts, "used")).reason == "host_busy"
        assert (await refused(hosts, "resting")).reason == "host_at_rest"
        assert len(hosts._hosts) <= 11
