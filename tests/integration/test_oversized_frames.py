"""Frames beyond every limit: stepped over after a few tries, in the right place, and told of as a gap."""

import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from ingester.accounts import FIREHOSE
from ingester.framing import FrameResult
from ingester.gap_watch import GapWatch
from ingester.gaps import GapLedger
from ingester.stepping_over import ONE_BY_ONE
from ingester.subscription import TRIES_AT_A_FRAME
from tests.websocket_hosts import TOO_LARGE, Host, Reader, error, identity, said


async def test_a_frame_beyond_every_limit_is_stepped_over_after_a_few_tries(relay: Host, reader: Reader) -> None:
    relay.has({8: identity(8), 9: TOO_LARGE, 10: identity(10)})
    await reader.session(7)
    for _ in range(TRIES_AT_A_FRAME - 1):
        assert reader.seqs == [8]
        await reader.session(8)
    assert (reader.seqs, reader.dropped[-1]) == ([8, 9], {"oversized_frame": 1})
    await reader.session(9)
    assert reader.seqs == [8, 9, 10]


@pytest.mark.parametrize("seq", [10, 11, 900, 12_345_678])
async def test_the_number_of_a_frame_that_is_too_large_is_found_however_far_it_jumps(
    relay: Host, reader: Reader, seq: int
) -> None:
    relay.has({8: identity(8), seq: TOO_LARGE, seq + 1: identity(seq + 1), seq + 90: identity(seq + 90)})
    for _ in range(TRIES_AT_A_FRAME):
        await reader.session(8)
    assert reader.seqs == [seq]
    assert len(relay.cursors) <= TRIES_AT_A_FRAME + ONE_BY_ONE + 2 * (seq - 8).bit_length()
    await reader.session(seq)
    assert reader.seqs == [seq, seq + 1, seq + 90]


async def test_what_is_between_frames_that_are_too_large_is_read(relay: Host, reader: Reader) -> None:
    large = dict.fromkeys([9, 10, 12, 17], TOO_LARGE)
    relay.has(dict(sorted((large | {seq: identity(seq) for seq in (8, 11, 13, 18)}).items())))
    position = 8
    for stepped_over in (10, 12, 17):
        for _ in range(TRIES_AT_A_FRAME):
            await reader.session(position)
            position = max(reader.seqs, default=position)
        assert stepped_over in reader.seqs
    await reader.session(position)
    assert reader.seqs == [10, 11, 12, 13, 17, 18]


@pytest.mark.parametrize("says", [[], [error("ConsumerTooSlow")]])
async def test_the_newest_frame_of_all_is_stepped_over_once_another_follows(
    relay: Host, reader: Reader, says: list[bytes]
) -> None:
    relay.has({8: identity(8), 30: TOO_LARGE}, at_the_end=says)
    for _ in range(TRIES_AT_A_FRAME):
        await reader.session(8)
    assert reader.seqs == []
    assert 30 in relay.cursors
    relay.has({8: identity(8), 30: TOO_LARGE, 50: identity(50)})
    await reader.session(8)
    assert reader.seqs == [30]


async def test_a_host_that_has_nothing_but_frames_that_are_too_large_moves_nothing(relay: Host, reader: Reader) -> None:
    relay.script = said(TOO_LARGE)
    for _ in range(TRIES_AT_A_FRAME):
        await reader.session(8)
    assert reader.seqs == []
    assert len(relay.cursors) < TRIES_AT_A_FRAME + ONE_BY_ONE + 60


async def test_a_frame_that_is_too_large_is_a_gap_before_it_is_stepped_over(
    redis: Redis, http: ClientSession, relay: Host
) -> None:
    ledger = GapLedger(redis)
    gaps = GapWatch(ledger, FIREHOSE.name, "here", seq_jump=1000)
    reader, known = Reader(http, relay.url, gaps=gaps), []

    async def deliver(result: FrameResult) -> None:
        known.append((result.seq, [(gap.kind, gap.after, gap.before) for gap in await ledger.all()]))

    relay.has({20: TOO_LARGE, 21: identity(21)})
    for _ in range(TRIES_AT_A_FRAME):
        await reader.session(8, deliver)
    await reader.session(20, deliver)
    assert known == [(20, [("oversized_frame", 8, None)]), (21, [("oversized_frame", 8, 21)])]


async def test_a_host_that_only_closes_is_not_stepped_through(relay: Host, reader: Reader) -> None:
    for _ in range(TRIES_AT_A_FRAME + 1):
        await reader.session(8)
    assert (reader.seqs, relay.cursors) == ([], [8] * (TRIES_AT_A_FRAME + 1))
