"""Turns at a PDS: how many at once, who waits, who is sent away and for how long."""

import asyncio
import contextlib
from contextlib import AsyncExitStack

import pytest

from backfiller import hosts as hosts_module
from backfiller.hosts import Hosts
from common.errors import BadInput, GiveUp, TryLater


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def permitted(name: str, urgent: bool) -> None:
    """By all other backfillers."""


async def refused(hosts: Hosts, name: str) -> TryLater:
    with pytest.raises(TryLater) as refusal:
        async with hosts.turn(name):
            pass
    return refusal.value


async def answered(hosts: Hosts, *names: str) -> Hosts:
    for name in names:
        async with hosts.turn(name):
            pass
    return hosts


async def test_a_host_has_a_few_turns_and_another_host_its_own(clock: Clock) -> None:
    hosts = await answered(Hosts(2, 2, permitted, clock), "a", "b")
    async with AsyncExitStack() as stack:
        for name in ("a", "a", "b", "b"):
            await stack.enter_async_context(hosts.turn(name))
        assert (await refused(hosts, "a")).reason == "host_busy"
    async with hosts.turn("a"):
        pass


async def begun_together(hosts: Hosts, count: int) -> int:
    """How many of so many turns at one host begin before any is over."""
    begun = 0

    async def take() -> None:
        nonlocal begun
        async with hosts.turn("a"):
            begun += 1
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(take()) for _ in range(count)]
    for _ in range(5):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return begun


async def test_a_host_that_has_not_answered_has_one_turn(clock: Clock) -> None:
    hosts = Hosts(4, 8, permitted, clock)
    assert await begun_together(hosts, 8) == 1
    with pytest.raises(TryLater):
        async with hosts.turn("a"):
            raise TryLater("timeout")
    assert await begun_together(hosts, 8) == 1


@pytest.mark.parametrize("answer", [None, GiveUp("repo_not_found"), BadInput("bad_car")], ids=str)
async def test_a_host_that_has_answered_whatever_it_was_has_all_its_turns(
    answer: Exception | None, clock: Clock
) -> None:
    hosts = Hosts(4, 8, permitted, clock)
    for _ in range(2):
        with contextlib.suppress(GiveUp, BadInput):
            async with hosts.turn("a"):
                if answer:
                    raise answer
    assert await begun_together(hosts, 8) == 4


async def test_some_wait_for_their_turn_and_get_it(clock: Clock) -> None:
    hosts = Hosts(1, 2, permitted, clock)
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
    hosts = Hosts(1, 1, permitted, clock)
    for _ in range(50):
        async with hosts.turn("a"):
            clock.now += 10.0
    async with hosts.turn("a"):
        waits = [(await refused(hosts, "a")).seconds or 0.0 for _ in range(1000)]
    assert waits[:3] == pytest.approx([8.0, 16.0, 24.0], rel=0.01)
    assert max(waits) == 3600.0


async def test_a_host_that_hangs_is_as_slow_as_its_oldest_turn_that_is_not_over(clock: Clock) -> None:
    hosts = await answered(Hosts(2, 2, permitted, clock), "a")
    async with AsyncExitStack() as later:
        async with hosts.turn("a"):
            clock.now += 30.0
            await later.enter_async_context(hosts.turn("a"))
            clock.now += 10.0
            assert (await refused(hosts, "a")).seconds == pytest.approx(16.0)
        await later.enter_async_context(hosts.turn("a"))
        clock.now += 20.0
        assert (await refused(hosts, "a")).seconds == pytest.approx(12.0)


async def test_a_host_that_hangs_from_the_first_is_waited_for_by_one_after_the_other(clock: Clock) -> None:
    hosts = Hosts(4, 4, permitted, clock)
    async with hosts.turn("a"):
        waiting = [asyncio.create_task(refused(hosts, "a")) for _ in range(3)]
        await asyncio.sleep(0)
        clock.now += 10.0
        assert (await refused(hosts, "a")).seconds == pytest.approx(8.0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_a_turn_that_fails_counts_for_the_pace_too(clock: Clock) -> None:
    hosts = Hosts(1, 1, permitted, clock)

    async def time_out() -> None:
        async with hosts.turn("a"):
            clock.now += 60.0
            raise TimeoutError

    for _ in range(50):
        with pytest.raises(TimeoutError):
            await time_out()
    async with hosts.turn("a"):
        assert ((await refused(hosts, "a")).seconds or 0.0) > 40.0


async def test_who_has_waited_for_a_turn_still_needs_a_permit_and_a_refusal_is_no_measure_of_the_pace(
    clock: Clock,
) -> None:
    at_rest = False

    async def permit(name: str, urgent: bool) -> None:
        if at_rest:
            raise TryLater("host_at_rest", name, 60.0)

    hosts = Hosts(1, 2, permit, clock)
    for _ in range(50):
        async with hosts.turn("a"):
            clock.now += 10.0
    async with asyncio.TaskGroup() as group, hosts.turn("a"):
        waiting = group.create_task(refused(hosts, "a"))
        await asyncio.sleep(0)
        at_rest = True
        clock.now += 10.0
    assert waiting.result().reason == "host_at_rest"
    for _ in range(50):
        await refused(hosts, "a")
    at_rest = False
    async with hosts.turn("a"), asyncio.TaskGroup() as group:
        seated = group.create_task(refused(hosts, "a"))
        await asyncio.sleep(0)
        assert ((await refused(hosts, "a")).seconds or 0.0) > 7.0
        seated.cancel()


async def test_what_is_urgent_has_seats_of_its_own_and_stands_in_no_line(clock: Clock) -> None:
    hosts = Hosts(1, 1, permitted, clock)
    async with hosts.turn("a"), asyncio.TaskGroup() as group:
        for _ in range(1000):
            await refused(hosts, "a")
        order: list[str] = []

        async def take() -> None:
            async with hosts.turn("a", urgent=True):
                order.append("urgent")

        urgent = group.create_task(take())
        await asyncio.sleep(0)
        with pytest.raises(TryLater) as refusal:
            async with hosts.turn("a", urgent=True):
                pass
        assert (refusal.value.seconds or 0.0) < 1.0 < ((await refused(hosts, "a")).seconds or 0.0)
        urgent.cancel()


async def test_idle_hosts_are_forgotten_and_those_in_use_are_not(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "MAX_REMEMBERED", 10)
    hosts = Hosts(1, 1, permitted, clock)
    async with hosts.turn("promised"):
        await refused(hosts, "promised")
    async with hosts.turn("used"):
        for number in range(100):
            async with hosts.turn(f"host{number}"):
                pass
        assert (await refused(hosts, "used")).reason == "host_busy"
        assert "promised" in hosts._hosts
        assert len(hosts._hosts) <= 11
