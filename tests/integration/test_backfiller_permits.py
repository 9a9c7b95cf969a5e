"""What all backfillers know of a host together: its pace, its rests, and whether it is down."""

import itertools

import pytest
from redis.asyncio import Redis

from backfiller import permits as permits_module
from backfiller.permits import Permits
from common.errors import TryLater
from common.rate_limits import RateLimit
from common.redis_connection import open_redis
from sluice.server import free_port
from tests.backfilling import (
    INPUT,
)
from tests.waiting import until

PDS = "https://pds.test"
KEY = f"{INPUT}:host:{PDS}"


def permits(redis: Redis, pace: float = 10.0) -> Permits:
    return Permits(redis, INPUT, requests_per_second=pace)


async def refusal(permits: Permits, *, urgent: bool = False) -> TryLater:
    """The first."""
    with pytest.raises(TryLater) as refused:
        await granted(permits, urgent=urgent, raising=True)
    return refused.value


async def granted(permits: Permits, *, urgent: bool = False, raising: bool = False) -> int:
    """How many ask before one is refused."""
    for number in itertools.count():
        try:
            await permits.ask(PDS, urgent)
        except TryLater:
            if raising:
                raise
            return number
    raise AssertionError


async def test_two_backfillers_share_one_pace(redis: Redis) -> None:
    one, other = permits(redis), permits(redis)
    assert 100 <= await granted(one) < 150  # ten seconds' worth, and what was filled meanwhile
    assert await granted(other) < 10
    await other.ask("https://other.test", False)


async def test_who_is_refused_comes_back_one_after_the_other(redis: Redis) -> None:
    paced = permits(redis, pace=0.5)
    first = await refusal(paced)
    assert first.reason == "host_paced"
    waits = [(await refusal(paced)).seconds or 0.0 for _ in range(20)]
    steps = [later - sooner for sooner, later in itertools.pairwise(waits)]
    assert all(1.0 < step < 1.61 for step in steps)


async def test_what_is_urgent_overdraws_the_bucket_and_stands_in_no_line(redis: Redis) -> None:
    paced = permits(redis, pace=1.0)
    for _ in range(100):
        last = await refusal(paced)
    assert (last.seconds or 0.0) > 60
    assert await granted(paced, urgent=True) >= 10
    assert ((await refusal(paced, urgent=True)).seconds or 0.0) <= 1.0


async def test_the_pace_is_what_the_host_leaves_us(redis: Redis) -> None:
    one, other = permits(redis, pace=1000.0), permits(redis, pace=1000.0)
    await one.ask(PDS, False)
    await one.answered(PDS, 0.1, RateLimit(remaining=3, reset_seconds=300.0), None)
    assert await granted(other) == 3
    refused = await refusal(other)
    assert refused.reason == "host_paced"
    assert (refused.seconds or 0.0) > 5.0
    assert await redis.hget(KEY, "most") is None
    await one.answered(PDS, 0.1, RateLimit(remaining=0, reset_seconds=300.0), None)
    refused = await refusal(other)
    assert refused.reason == "host_at_rest"
    assert 290.0 < (refused.seconds or 0.0) < 310.0


async def test_what_a_host_allows_is_its_pace_beyond_the_window_too(redis: Redis) -> None:
    """Our own pace is far beyond that."""
    one = permits(redis, pace=1000.0)
    await one.ask(PDS, False)
    await one.answered(PDS, 0.1, RateLimit(remaining=9, reset_seconds=10.0, limit=10), None)
    await one.answered(PDS, 0.1, RateLimit(remaining=9, reset_seconds=5.0, limit=10), None)
    await redis.hset(KEY, "pace_until", 1)  # the window is over
    assert await granted(one) <= 10
    waits = [(await refusal(one)).seconds or 0.0 for _ in range(10)]
    assert waits[-1] > 5.0


async def test_a_rest_that_one_was_asked_for_is_kept_by_all_and_the_longest_counts(redis: Redis) -> None:
    one, other = permits(redis), permits(redis)
    await one.answered(PDS, 0.1, None, 60.0)
    await one.answered(PDS, 0.1, None, 5.0)
    refused = await refusal(other, urgent=True)
    assert refused.reason == "host_at_rest"
    assert 59.0 < (refused.seconds or 0.0) <= 60.0
    assert (one.left_alone("host_at_rest"), other.left_alone("host_at_rest")) == (1, 1)
    assert await redis.ttl(KEY) > 80_000


async def test_a_host_that_does_not_answer_is_left_alone_then_asked_by_one(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits_module, "FIRST_DOWN_SECONDS", 0.2)
    monkeypatch.setattr(permits_module, "PROBE_SECONDS", 5.0)
    one, other = permits(redis), permits(redis)
    for _ in range(permits_module.DOWN_AFTER_FAULTS):
        await one.ask(PDS, False)
        await one.failed(PDS)
    refused = await refusal(other, urgent=True)
    assert refused.reason == "host_down"
    assert (refused.seconds or 0.0) <= 0.2
    assert other.left_alone("host_down") == 1

    async def open_again() -> bool:
        try:
            await one.ask(PDS, False)
        except TryLater:
            return False
        return True

    await until(open_again)  # the probe
    assert 4.0 < ((await refusal(other, urgent=True)).seconds or 0.0) <= 5.0
    await one.failed(PDS)
    assert 0.2 < ((await refusal(other, urgent=True)).seconds or 0.0) <= 0.4  # twice as long
    await until(open_again)
    await one.answered(PDS, 0.1, None, None)
    await other.ask(PDS, False)
    await one.failed(PDS)
    await other.ask(PDS, False)  # the count began again


async def test_a_host_that_was_down_for_hours_is_dead(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """From then on its repos use up their tries."""
    one = permits(redis)
    for _ in range(permits_module.DOWN_AFTER_FAULTS):
        await one.failed(PDS)
    assert (await refusal(one)).reason == "host_down"
    await redis.hincrby(KEY, "since", -int(permits_module.DEAD_AFTER_SECONDS * 1000))
    assert (await refusal(one)).reason == "host_dead"


async def test_an_outage_of_redis_refuses_nobody() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}") as away:
        lonely = permits(away)
        await lonely.ask(PDS, False)
        await lonely.answered(PDS, 0.1, None, 60.0)
        await lonely.failed(PDS)
        await lonely.ask(PDS, False)
