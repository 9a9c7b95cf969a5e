"""What stands between the reader and the writer: one batch that fills, and a reader that waits when it is full."""

import asyncio

import pytest

from ingester.batching import Batch, BatchLimits, Buffer

LIMITS = BatchLimits(entries=3, size_bytes=100, age_seconds=60)


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
        buffer.add([b"x"], 1, seq, "")
    assert not await has_room(buffer)
    assert await taken(buffer) == Batch([b"x"] * 3, units=3, size_bytes=3, seq=3)
    assert await has_room(buffer)


async def test_bytes_fill_a_batch_as_entries_do() -> None:
    buffer = Buffer(LIMITS)
    buffer.add([b"x" * 100], 1, 1, "")
    assert not await has_room(buffer)


async def test_a_batch_that_does_not_fill_is_due_by_its_age() -> None:
    buffer = Buffer(BatchLimits(entries=3, size_bytes=100, age_seconds=0.01))
    buffer.add([b"x"], 1, 1, "then")
    assert await taken(buffer) == Batch([b"x"], units=1, size_bytes=1, seq=1, time="then")


async def test_a_frame_without_events_makes_a_batch_that_only_moves_the_cursor() -> None:
    buffer = Buffer(BatchLimits(entries=3, size_bytes=100, age_seconds=0.01))
    buffer.add([], 0, 9, "")
    assert await taken(buffer) == Batch(seq=9)


async def test_nothing_is_due_before_anything_came() -> None:
    buffer = Buffer(BatchLimits(entries=3, size_bytes=100, age_seconds=0.001))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await buffer.take()


async def test_a_closed_buffer_gives_what_it_has_and_then_ends() -> None:
    buffer = Buffer(LIMITS)
    buffer.add([b"x"], 1, 1, "")
    buffer.close()
    assert await taken(buffer) == Batch([b"x"], units=1, size_bytes=1, seq=1)
    assert await taken(buffer) is None


async def test_a_reader_cancelled_while_it_waits_has_added_nothing() -> None:
    buffer = Buffer(BatchLimits(entries=1, size_bytes=100, age_seconds=60))
    buffer.add([b"x"], 1, 1, "")
    assert not await has_room(buffer)
    assert await taken(buffer) == Batch([b"x"], units=1, size_bytes=1, seq=1)
