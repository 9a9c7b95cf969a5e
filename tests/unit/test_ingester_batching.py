"""What stands between the reader and the writer: one batch that fills, and a reader that waits when it is full."""

import asyncio

import pytest

from common.chain import Frame, no_step
from ingester.batching import Batch, BatchLimits, Buffer
from ingester.chain import Told

LIMITS = BatchLimits(entries=3, size_bytes=100, age_seconds=60)


def frame(seq: int, *payloads: bytes, time: str = "") -> Told:
    return Told(Frame(no_step(len(payloads)), payloads), len(payloads), seq, time)


async def taken(buffer: Buffer) -> Batch | None:
    async with asyncio.timeout(5):
        return await buffer.take()


async def has_room(buffer: Buffer) -> bool:
    try:
        async with asyncio.timeout(0.01):
            await buffer.room()
    except TimeoutError:
        return False
    return True


async def test_a_batch_is_due_when_it_is_full_and_the_reader_waits_until_it_is_taken() -> None:
    buffer = Buffer(LIMITS)
    for seq in (1, 2, 3):
        assert await has_room(buffer)
        buffer.add(frame(seq, b"x"))
    assert not await has_room(buffer)
    assert await taken(buffer) == Batch(
        [frame(seq, b"x") for seq in (1, 2, 3)], entries=3, units=3, size_bytes=3, seq=3
    )
    assert await has_room(buffer)


async def test_bytes_fill_a_batch_as_entries_do() -> None:
    buffer = Buffer(LIMITS)
    buffer.add(frame(1, b"x" * 100))
    assert not await has_room(buffer)


async def test_a_batch_that_does_not_fill_is_due_by_its_age() -> None:
    buffer = Buffer(BatchLimits(entries=3, size_bytes=100, age_seconds=0.01))
    buffer.add(told := frame(1, b"x", time="then"))
    assert await taken(buffer) == Batch([told], entries=1, units=1, size_bytes=1, seq=1, time="then")


async def test_a_frame_without_events_makes_a_batch_that_only_moves_the_cursor() -> None:
    buffer = Buffer(BatchLimits(entries=3, size_bytes=100, age_seconds=0.01))
    buffer.add(frame(9))
    assert await taken(buffer) == Batch([frame(9)], entries=1, seq=9)


async def test_nothing_is_due_before_anything_came() -> None:
    buffer = Buffer(BatchLimits(entries=3, size_bytes=100, age_seconds=0.001))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await buffer.take()


async def test_a_closed_buffer_gives_what_it_has_and_then_ends() -> None:
    buffer = Buffer(LIMITS)
    buffer.add(frame(1, b"x"))
    buffer.close()
    assert await taken(buffer) == Batch([frame(1, b"x")], entries=1, units=1, size_bytes=1, seq=1)
    assert await taken(buffer) is None


async def test_a_reader_cancelled_while_it_waits_has_added_nothing() -> None:
    buffer = Buffer(BatchLimits(entries=1, size_bytes=100, age_seconds=60))
    buffer.add(frame(1, b"x"))
    assert not await has_room(buffer)
    assert await taken(buffer) == Batch([frame(1, b"x")], entries=1, units=1, size_bytes=1, seq=1)
