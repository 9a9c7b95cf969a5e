"""Live portions first, and a backfill that is slow but never starved."""

import asyncio

from indexer.turns import Turns


async def served(turns: Turns, portions: int) -> int:
    """Of so many backfill portions in a row, those whose turn it is before anything else happens."""
    done = 0

    async def serve() -> None:
        nonlocal done
        for _ in range(portions):
            await turns.backfill()
            done += 1

    task = asyncio.create_task(serve())
    for _ in range(3 * portions):
        await asyncio.sleep(0)
    task.cancel()
    return done


async def test_a_backfill_waits_while_something_live_is_at_hand() -> None:
    turns = Turns(4)
    assert await served(turns, 10) == 10
    turns.live_comes()
    assert await served(turns, 10) == 0
    turns.live_goes()
    assert await served(turns, 10) == 10


async def test_it_waits_for_what_the_stream_still_has_too() -> None:
    turns = Turns(4)
    turns.live_was_read("live", in_full=True)
    turns.live_was_read("labels", in_full=True)
    turns.live_was_read("labels", in_full=False)
    assert await served(turns, 10) == 0
    waiting = asyncio.create_task(turns.backfill())
    await asyncio.sleep(0)
    turns.live_was_read("live", in_full=False)
    await waiting
    assert await served(turns, 10) == 10


async def test_it_has_one_turn_for_so_many_live_ones_even_if_these_never_end() -> None:
    turns = Turns(4)
    turns.live_comes()
    await asyncio.sleep(0)
    done = 0

    async def backfill() -> None:
        nonlocal done
        while True:
            await turns.backfill()
            done += 1

    task = asyncio.create_task(backfill())
    for _ in range(40):
        turns.live_comes()  # there is always a next one
        turns.live_goes()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    task.cancel()
    assert done == 10
