"""Several indexers that hear of the same people at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.identity import Identities
from common.outbound import Outbound
from indexer import handles
from indexer.deletions import lock_account, remove_account
from indexer.due import Check, DueChecks
from indexer.handle_resolver import HandleResolver
from indexer.handles import HandleLookup
from tests import factories as make
from tests.databases import waits_for_a_lock
from tests.factories import ALICE, BOB, CAROL, POST, moment, snapshot
from tests.indexing import Index
from tests.waiting import until


async def wait_for_locks(index: Index, sessions: int) -> None:
    async def are_waiting() -> bool:
        return await waits_for_a_lock(index.pool) == sessions

    await until(are_waiting)


@asynccontextmanager
async def held(index: Index, table: str, did: str) -> AsyncIterator[None]:
    """Somebody has this row until the end."""
    async with index.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SELECT FROM {table} WHERE did = $1 FOR UPDATE", did)
        yield


@asynccontextmanager
async def a_lookup(index: Index) -> AsyncIterator[HandleLookup]:
    async with Outbound() as outbound:
        yield HandleLookup(index.database, Identities(outbound, "http://x.invalid"), HandleResolver(outbound))


async def test_batches_that_tell_of_the_same_people_wait_for_each_other_in_one_order(index: Index) -> None:
    await index.apply(make.identity(ALICE, 1), make.identity(BOB, 1))
    async with asyncio.TaskGroup() as tasks, held(index, "sluice_bsky.repo", ALICE):
        tasks.create_task(index.apply(make.identity(ALICE, 2), make.identity(BOB, 2)))
        await wait_for_locks(index, 1)
        tasks.create_task(index.apply(*snapshot(BOB, {}, 3), make.identity(ALICE, 3)))
        await wait_for_locks(index, 2)
    times = await index.pool.fetch("SELECT identity_time FROM sluice_bsky.repo ORDER BY did")
    assert [time for (time,) in times] == [moment(3), moment(2)]


async def test_a_handle_is_stored_while_a_batch_tells_of_its_holder(index: Index) -> None:
    await index.apply(make.identity(ALICE, 1))
    async with asyncio.TaskGroup() as tasks, a_lookup(index) as lookup, held(index, "bsky.actor", ALICE):
        tasks.create_task(lookup.write(Check(ALICE, moment(1), 0), "alice.test"))
        await wait_for_locks(index, 1)
        tasks.create_task(index.apply(make.identity(ALICE, 2), make.account(ALICE, 2, active=False)))
        await wait_for_locks(index, 2)
    assert await index.rows("actor", "handle", "upstreamStatus") == [("alice.test", "inactive")]


async def test_a_handle_that_many_are_given_at_once_is_held_by_one(index: Index) -> None:
    people = [make.did(name) for name in ("b", "c", "d", "e", "f", "g")]
    await index.apply(*(make.identity(who, 1) for who in people))
    async with a_lookup(index) as lookup:
        for turn in range(10):
            await asyncio.gather(*(lookup.write(Check(who, moment(1), 0), f"{turn}.test") for who in people))
            handles = await index.rows("actor", "handle")
            assert sorted(filter(None, handles)) == [f"{turn}.test"]


async def test_a_handle_that_somebody_else_writes_meanwhile_stops_nobody(index: Index) -> None:
    await index.apply(make.identity(ALICE, 1))
    stop, tried = asyncio.Event(), asyncio.Event()
    async with a_lookup(index) as lookup:

        async def look(check: Check) -> None:
            try:
                await lookup.write(check, "alice.test")
            finally:
                tried.set()

        async with asyncio.TaskGroup() as tasks:
            async with index.pool.acquire() as connection, connection.transaction():
                await connection.execute("INSERT INTO bsky.actor VALUES ($1, 'alice.test', '')", BOB)
                tasks.create_task(DueChecks(index.database, handles.TABLE, look, 1).run(stop))
                await wait_for_locks(index, 1)
            await tried.wait()
            stop.set()
    assert await index.rows("actor", "did", "handle") == [(ALICE, None), (BOB, "alice.test")]
    assert await index.pool.fetchval("SELECT did FROM sluice_bsky.handle_check") == ALICE


async def test_who_comes_back_while_being_removed_is_fetched_again(index: Index) -> None:
    await index.apply(make.create(CAROL, "a", make.post(), 1))
    async with asyncio.TaskGroup() as tasks, index.database.transaction() as session:
        await lock_account(session, CAROL)
        await remove_account(session, CAROL, moment(2))
        tasks.create_task(index.apply(make.account(CAROL, 3, active=True)))
        await wait_for_locks(index, 1)
    assert await index.pool.fetchval("SELECT did FROM sluice_bsky.resync") == CAROL
    await index.apply(*snapshot(CAROL, {(POST, "a"): make.post()}, 1))
    assert len(await index.rows("post", "uri")) == 1


async def test_who_vanishes_in_a_transaction_is_not_waited_for_long(index: Index) -> None:
    async with index.database.transaction() as session:
        ((limit,),) = await session.fetch("SHOW idle_in_transaction_session_timeout")
    assert limit == "1min"
