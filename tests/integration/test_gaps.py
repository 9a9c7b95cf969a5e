"""What a source skipped stands in the ledger before the cursor is past it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from ingester import gaps
from ingester.framing import FrameResult
from ingester.gap_watch import GapWatch
from ingester.gaps import CLOSED, COMPARING, Gap, GapLedger
from tests.ingesting import StartIngester, host, labeler, on_the_stream, until_cursor, until_log
from tests.recorded_network import StartNetwork
from tests.waiting import until

HOST = "relay.example.com"


def watch(redis: Redis) -> GapWatch:
    return GapWatch(GapLedger(redis), "firehose", HOST, seq_jump=10)


def outdated(**changes: Any) -> Gap:
    fields = {"source": "firehose", "host": HOST, "kind": "outdated_cursor", "after": 5, "before": 9, "why": "so"}
    return Gap(**(fields | changes))


async def deliver(watched: Callable[[FrameResult], Awaitable[None]], *seqs: int) -> None:
    for seq in seqs:
        await watched(FrameResult(kind="#identity", seq=seq))


async def ledger(redis: Redis) -> list[tuple[str, int, int | None, str]]:
    return [(gap.kind, gap.after, gap.before, gap.state) for gap in await GapLedger(redis).all()]


def seen(into: list[Any], redis: Redis) -> Callable[[FrameResult], Awaitable[None]]:
    """A `deliver` that keeps what stood in the ledger by then."""

    async def keep(result: FrameResult) -> None:
        into.append((result.seq, await ledger(redis)))

    return keep


async def test_an_outdated_cursor_is_in_the_ledger_before_the_first_event_is_delivered(redis: Redis) -> None:
    watching, delivered = watch(redis), []
    watched = watching.watching(100, seen(delivered, redis))
    watching.outdated()
    await deliver(watched, 500, 501)
    gap = ("outdated_cursor", 100, 500, "open")
    assert delivered == [(500, [gap]), (501, [gap])]


@pytest.mark.parametrize(
    ("position", "first", "is_gap"), [(100, 101, False), (100, 110, False), (100, 111, True), (0, 5000, False)]
)
async def test_a_first_event_far_beyond_the_cursor_is_a_gap(
    redis: Redis, position: int, first: int, is_gap: bool
) -> None:
    await deliver(watch(redis).watching(position, seen([], redis)), first)
    assert await ledger(redis) == [("seq_jump", position, first, "open")] * is_gap


async def test_only_the_first_event_of_a_connection_can_be_a_jump(redis: Redis) -> None:
    await deliver(watch(redis).watching(100, seen([], redis)), 101, 5000)
    assert await ledger(redis) == []


async def test_without_a_cursor_nothing_is_outdated(redis: Redis) -> None:
    watching = watch(redis)
    watched = watching.watching(0, seen([], redis))
    watching.outdated()
    await deliver(watched, 500)
    assert await ledger(redis) == []


async def test_a_notice_is_about_its_own_connection(redis: Redis) -> None:
    watching = watch(redis)
    watching.watching(100, seen([], redis))
    watching.outdated()
    await deliver(watching.watching(100, seen([], redis)), 101)
    assert await ledger(redis) == []


async def test_where_a_stream_goes_on_after_a_refused_cursor_ends_the_gap(redis: Redis) -> None:
    watching = watch(redis)
    watching.watching(1000, seen([], redis))
    await watching.future()
    await watching.future()
    assert await ledger(redis) == [("future_cursor", 1000, None, "open")]
    delivered: list[Any] = []
    await deliver(watching.watching(0, seen(delivered, redis)), 3, 4)
    assert delivered[0] == (3, [("future_cursor", 1000, 3, "open")])


async def test_the_gap_of_another_host_is_not_ended(redis: Redis) -> None:
    await GapLedger(redis).record(outdated(host="other.example.com", kind="future_cursor", before=None))
    await deliver(watch(redis).watching(5, seen([], redis)), 6)
    assert await ledger(redis) == [("future_cursor", 5, None, "open")]


async def test_a_gap_is_recorded_once_and_again_when_it_has_grown(redis: Redis) -> None:
    book = GapLedger(redis)
    assert [await book.record(outdated()), await book.record(outdated())] == [True, False]
    (known,) = await book.all()
    assert await book.change(known, state=COMPARING)
    assert await book.record(outdated(before=12)), "what came in between is not in the comparison"
    assert await ledger(redis) == [("outdated_cursor", 5, 12, "open")]


async def test_what_has_changed_meanwhile_is_not_closed(redis: Redis) -> None:
    book = GapLedger(redis)
    await book.record(outdated())
    (known,) = await book.all()
    await book.record(outdated(before=12))
    assert not await book.close(known)
    assert await ledger(redis) == [("outdated_cursor", 5, 12, "open")]


async def test_a_gap_that_was_closed_and_is_there_again_is_open(redis: Redis) -> None:
    book = GapLedger(redis)
    await book.record(outdated())
    assert await book.close((await book.all())[0])
    assert await book.record(outdated())
    assert [gap.state for gap in await book.all()] == ["open"]


async def test_the_ledger_forgets_old_gaps_that_are_closed_and_no_others(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps, "CLOSED_KEPT", 2)
    book = GapLedger(redis)
    for after in range(5):
        await book.record(outdated(after=after))
    for gap in (await book.all())[:4]:
        assert await book.close(gap)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(book.watch(stop))
        await until(lambda: REGISTRY.get_sample_value("ingester_gaps_unclosed", {"source": "firehose"}) == 1)
        stop.set()
    assert [(gap.after, gap.state) for gap in await book.all()] == [(2, CLOSED), (3, CLOSED), (4, "open")]


async def test_lists_of_strangers_do_not_fill_the_ledger(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gaps, "MOST_OF_LISTS", 2)
    book = GapLedger(redis)
    made = [await book.record(outdated(source="listing", kind="unlisted_rows", after=after)) for after in range(3)]
    assert made == [True, True, False]
    assert caplog.text.count("no room for") == 1
    assert await book.record(outdated()), "a relay's gap is never left out"


@pytest.mark.parametrize(("hides", "kind"), [(False, "outdated_cursor"), (True, "seq_jump")])
async def test_a_window_shorter_than_the_downtime_leaves_a_gap(
    hides: bool, kind: str, redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("load-tiny")
    await redis.set(f"firehose_live:cursor:{host(served)}", "100")
    served.firehose.faults.oldest_seq, served.firehose.faults.hides_outdated = 1500, hides
    await ingester(served, INGESTER_COMPARE_GAPS="false")
    await until_cursor(redis, served)
    assert await ledger(redis) == [(kind, 100, 1500, "open")]
    assert (await on_the_stream(redis))[0][0] == 1500


async def test_what_a_labeler_no_longer_has_is_a_gap_that_stays(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    last = served.recording.last_label_seq
    await redis.set(f"label_live:cursor:{host(served)}", last - 2)
    served.labels.faults.oldest_seq = last
    await ingester(served, **(labeler(served) | {"INGESTER_MODE": "labeler"}))

    async def has_read_on() -> bool:
        return await redis.get(f"label_live:cursor:{host(served)}") == str(last).encode()

    await until(has_read_on)
    (gap,) = await GapLedger(redis).all()
    assert (gap.source, gap.host, gap.kind) == ("labeler", host(served), "outdated_cursor")
    assert (gap.after, gap.before, gap.state) == (last - 2, last, "open")


async def test_a_host_that_does_not_know_our_cursor_is_written_down_and_nothing_is_reset(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("basic")
    await redis.set(f"firehose_live:cursor:{host(served)}", "999999")
    daemon = await ingester(served)
    await until_log(daemon, "gap: events were missed; `sluice gaps` lists what becomes of it")
    assert await ledger(redis) == [("future_cursor", 999999, None, "open")]
    assert await redis.get(f"firehose_live:cursor:{host(served)}") == b"999999"
