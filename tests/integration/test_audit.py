"""The auditor finds every count that is not what COUNT(*) says, nothing else, and mends it while indexers write."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from indexer.audit import LISTED, PORTION, Difference, Report, audit
from indexer.batch import collect
from indexer.database import Database
from indexer.deletions import remove_account
from indexer.session import Session
from sluice.server import free_port
from tests import factories as make
from tests.commands import sluice
from tests.factories import ALICE, BOB, CAROL, DAN, FOLLOW, LIKE, POST, REPOST, moment, uri
from tests.histories import GATE, history
from tests.indexing import STREAM, Index
from tests.waiting import until

BOBS = uri(BOB, POST, "b")
CAROLS_LIKE = make.create(CAROL, "l", make.like(BOBS), 3)
# what was written to be counted, where it counts, and towards what
COLUMNS = {
    "likeCount": ("post_agg", BOBS),
    "repostCount": ("post_agg", BOBS),
    "replyCount": ("post_agg", BOBS),
    "quoteCount": ("post_agg", BOBS),
    "followersCount": ("profile_agg", BOB),
    "followsCount": ("profile_agg", ALICE),
    "postsCount": ("profile_agg", ALICE),
}
PATIENCE_SECONDS = 30
KEYS = {"post_agg": "uri", "profile_agg": "did"}


@pytest.fixture
async def counted(index: Index) -> Index:
    """One of everything that counts, from Alice, and Bob's post that most of it is about: her posts are two."""
    values = {"l": make.like(BOBS), "r": make.repost(BOBS), "a": make.reply(BOBS), "q": make.quote(BOBS)}
    await index.apply(make.create(BOB, "b", make.post(), 1))
    await index.apply(*(make.create(ALICE, rkey, value, 2) for rkey, value in values.items()))
    await index.apply(make.create(ALICE, "f", make.follow(BOB), 2))
    return index


async def set_count(index: Index, column: str, value: int) -> None:
    table, key = COLUMNS[column]
    await index.pool.execute(f'UPDATE bsky.{table} SET "{column}" = $1 WHERE {KEYS[table]} = $2', value, key)


async def drop_aggregate(index: Index, column: str) -> None:
    table, key = COLUMNS[column]
    await index.pool.execute(f"DELETE FROM bsky.{table} WHERE {KEYS[table]} = $1", key)


def drift(column: str, stored: int | None, counted: int) -> Difference:
    table, key = COLUMNS[column]
    return Difference(table, column, key, stored, counted)


async def check_exact(index: Index) -> None:
    for sample in (None, 100):
        assert (await audit(index.database, sample)).differences == []


# what is right


@pytest.mark.parametrize("seed", range(3))
async def test_a_history_leaves_no_drift(seed: int, index: Index) -> None:
    choose = random.Random(seed).choice
    events = history(choose, 120, (POST, LIKE, REPOST, FOLLOW, GATE))
    for start in range(0, len(events), 7):
        await index.apply(*events[start : start + 7])
    await check_exact(index)
    async with index.database.transaction() as session:
        await remove_account(session, ALICE, moment(1000))
    await check_exact(index)


async def test_a_reply_that_its_gate_forbids_does_not_count(index: Index) -> None:
    gate = make.record(GATE, post=BOBS, allow=[])
    await index.apply(make.create(BOB, "b", make.post(), 1), make.create(BOB, "b", gate, 1))
    await index.apply(make.create(ALICE, "a", make.reply(BOBS), 2))
    assert await index.count("post_agg", "replyCount", BOBS) == 0
    await check_exact(index)


async def test_duplicates_count_once(counted: Index) -> None:
    await counted.apply(make.create(ALICE, "again", make.like(BOBS), 3))
    assert await counted.count("post_agg", "likeCount", BOBS) == 1
    await check_exact(counted)


async def test_the_quotes_of_a_deleted_post_may_stay_counted(counted: Index) -> None:
    await counted.apply(make.delete(BOB, POST, "b", 3))
    assert await counted.rows("quote", "uri") == []
    assert await counted.count("post_agg", "quoteCount", BOBS) == 1
    await check_exact(counted)


async def test_other_counts_of_a_deleted_post_are_compared(counted: Index) -> None:
    await counted.apply(make.delete(BOB, POST, "b", 3))
    await set_count(counted, "likeCount", 5)
    assert (await audit(counted.database, None)).differences == [drift("likeCount", 5, 1)]


# what is wrong


@pytest.mark.parametrize("sample", [None, 100], ids=["all", "sample"])
@pytest.mark.parametrize("stored", [-3, 0, 7])
@pytest.mark.parametrize("column", COLUMNS)
async def test_a_wrong_count_is_found_and_repaired(
    column: str, stored: int, sample: int | None, counted: Index
) -> None:
    table, key = COLUMNS[column]
    before = await counted.everything()
    exact = await counted.count(table, column, key) or 0
    await set_count(counted, column, stored)
    report = await audit(counted.database, sample)
    assert report.differences == [drift(column, stored, exact)]
    assert {name: count for name, count in report.differing.items() if count} == {f"{table}.{column}": 1}
    assert (report.keys_differing, report.keys_repaired) == (1, 0)
    assert await counted.count(table, column, key) == stored
    report = await audit(counted.database, sample, repair=True)
    assert (report.keys_differing, report.keys_repaired) == (1, 1)
    assert await counted.everything() == before


@pytest.mark.parametrize("sample", [None, 100], ids=["all", "sample"])
@pytest.mark.parametrize("column", COLUMNS)
async def test_rows_without_an_aggregate_are_found_and_counted(column: str, sample: int | None, counted: Index) -> None:
    before = await counted.everything()
    exact = await counted.count(COLUMNS[column][0], column, COLUMNS[column][1]) or 0
    await drop_aggregate(counted, column)
    assert drift(column, None, exact) in (await audit(counted.database, sample)).differences
    report = await audit(counted.database, sample, repair=True)
    assert (report.keys_differing, report.keys_repaired) == (1, 1)
    assert await counted.everything() == before


async def test_each_table_that_counts_towards_a_key_leads_to_it(counted: Index) -> None:
    for sample in (None, 100):
        for number, value in enumerate((make.like, make.repost, make.reply, make.quote)):
            subject = uri(DAN, POST, f"{number}")
            await counted.apply(make.create(CAROL, f"x{number}", value(subject), 3))
            await counted.pool.execute("DELETE FROM bsky.post_agg WHERE uri = $1", subject)
            assert [found.key for found in (await audit(counted.database, sample)).differences] == [subject]
            assert (await audit(counted.database, sample, repair=True)).keys_repaired == 1


async def test_an_aggregate_of_nothing_is_found(counted: Index) -> None:
    for sample in (None, 100):
        await counted.pool.execute("INSERT INTO bsky.profile_agg (did, \"postsCount\") VALUES ('did:web:none', 3)")
        report = await audit(counted.database, sample)
        assert report.differences == [Difference("profile_agg", "postsCount", "did:web:none", 3, 0)]
        assert (await audit(counted.database, sample, repair=True)).keys_repaired == 1
        await counted.pool.execute("DELETE FROM bsky.profile_agg WHERE did = 'did:web:none' AND \"postsCount\" = 0")


async def test_what_the_appview_counts_is_left_alone(counted: Index) -> None:
    await set_count(counted, "likeCount", 9)
    await counted.pool.execute('UPDATE bsky.post_agg SET "bookmarkCount" = 7')
    await audit(counted.database, None, repair=True)
    assert await counted.count("post_agg", "likeCount", BOBS) == 1
    assert await counted.count("post_agg", "bookmarkCount", BOBS) == 7


async def test_all_is_every_key_once_and_a_sample_as_many_as_asked_for(index: Index) -> None:
    keys = max(LISTED, 5 * PORTION) + 17
    await index.pool.execute(
        """
        WITH subject AS (SELECT n::text, 'at://' || n AS uri FROM generate_series(1, $1::int) AS n),
        twice AS (INSERT INTO bsky.post_agg (uri, "likeCount") SELECT uri, 2 FROM subject)
        INSERT INTO bsky."like" (uri, cid, creator, subject, "subjectCid", "createdAt", "indexedAt")
        SELECT n, '', '', uri, '', '', '' FROM subject
        """,
        keys,
    )
    report = await audit(index.database, None)
    assert report.checked["post_agg.likeCount"] == report.differing["post_agg.likeCount"] == keys
    assert report.keys_differing == keys
    assert len({found.key for found in report.differences}) == len(report.differences) == LISTED
    report = await audit(index.database, 50)
    assert report.checked["post_agg.likeCount"] == report.differing["post_agg.likeCount"] == 50
    assert report.checked["profile_agg.postsCount"] == 0


async def test_only_what_is_exact_then_counts_as_repaired(counted: Index) -> None:
    """Here something else sets the count back at once."""
    await set_count(counted, "likeCount", 9)
    await counted.pool.execute(
        """
        CREATE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW."likeCount" := 9; RETURN NEW; END';
        CREATE TRIGGER stubborn BEFORE UPDATE ON bsky.post_agg FOR EACH ROW EXECUTE FUNCTION stubborn();
        """
    )
    report = await audit(counted.database, None, repair=True)
    assert (report.keys_differing, report.keys_repaired) == (1, 0)


# while indexers write


class Held(Database):
    """Applies batches, and commits them when it is told to."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool, "bsky")
        self.written, self.may_commit = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with super().transaction() as session:
            yield session
            self.written.set()
            await self.may_commit.wait()


async def somebody_waits(pool: asyncpg.Pool) -> Any:
    """For a lock, in this database."""
    return await pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


async def repaired(index: Index) -> Report:
    return await audit(index.database, None, repair=True)


@pytest.mark.parametrize("stored", [0, 9, None], ids=["too low", "too high", "no row"])
@pytest.mark.parametrize("deed", ["a like comes", "a like goes"])
async def test_a_repair_waits_for_an_indexer_that_has_moved_the_count(
    deed: str, stored: int | None, counted: Index
) -> None:
    """A count that is too low is floored when a like goes: then it is less wrong than it was when it was found."""
    if deed == "a like goes":
        await counted.apply(CAROLS_LIKE)
    await (drop_aggregate(counted, "likeCount") if stored is None else set_count(counted, "likeCount", stored))
    held = Held(counted.pool)
    event = CAROLS_LIKE if deed == "a like comes" else make.delete(CAROL, LIKE, "l", 4)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(held.apply(collect(make.items([event])), STREAM))
        await held.written.wait()
        repairing = tasks.create_task(repaired(counted))
        await until(lambda: somebody_waits(counted.pool))
        held.may_commit.set()
    assert repairing.result().keys_differing == repairing.result().keys_repaired == 1
    assert await counted.count("post_agg", "likeCount", BOBS) == (2 if deed == "a like comes" else 1)
    await check_exact(counted)


@pytest.mark.parametrize("stored", [0, 9, None], ids=["too low", "too high", "no row"])
async def test_a_repair_does_not_see_the_rows_of_an_indexer_that_has_yet_to_move_the_count(
    stored: int | None, counted: Index
) -> None:
    """The indexer is held where it tells Bob of the like, between the like's row and its count."""
    await (drop_aggregate(counted, "likeCount") if stored is None else set_count(counted, "likeCount", stored))
    async with asyncio.TaskGroup() as tasks, counted.pool.acquire() as holder, holder.transaction():
        await holder.execute("LOCK TABLE bsky.notification IN EXCLUSIVE MODE")
        tasks.create_task(counted.apply(CAROLS_LIKE))
        await until(lambda: somebody_waits(counted.pool))
        report = await repaired(counted)
        assert report.keys_differing == report.keys_repaired == 1
        assert await counted.count("post_agg", "likeCount", BOBS) == 1
    assert await counted.count("post_agg", "likeCount", BOBS) == 2
    await check_exact(counted)


async def test_what_an_indexer_is_writing_is_no_drift(counted: Index) -> None:
    held = Held(counted.pool)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(held.apply(collect(make.items([CAROLS_LIKE])), STREAM))
        await held.written.wait()
        async with asyncio.timeout(PATIENCE_SECONDS):  # whoever waits for a lock waits for ever
            await check_exact(counted)
        held.may_commit.set()
    await check_exact(counted)


# the command


async def test_the_command_says_what_differs_and_repairs_it(counted: Index, tmp_path: Path) -> None:
    environ = {"DATABASE_URL": counted.url}
    await set_count(counted, "likeCount", 12345)
    await drop_aggregate(counted, "followsCount")
    ended = await sluice("audit", folder=tmp_path, environ=environ)
    assert (ended.code, ended.error) == (1, "")
    lines = [" ".join(line.replace("│", " ").split()) for line in ended.out.splitlines()]
    assert {"post_agg.repostCount 1 0", "post_agg.likeCount 1 1", "profile_agg.followsCount 2 1"} <= set(lines)
    assert f"post_agg.likeCount {BOBS} 12,345 1" in lines
    assert f"profile_agg.followsCount {ALICE} no row 1" in lines
    assert lines[-1] == "2 keys differ, 0 of them repaired"

    ended = await sluice("audit", "--all", "--repair", "--json", folder=tmp_path, environ=environ)
    assert ended.code == 0
    assert (ended.result["keys_differing"], ended.result["keys_repaired"]) == (2, 2)
    assert ended.result["checked"]["post_agg.likeCount"] == ended.result["differing"]["post_agg.likeCount"] == 1
    like = {"aggregate": "post_agg", "column": "likeCount", "key": BOBS, "stored": 12345, "counted": 1}
    assert like in ended.result["differences"]

    ended = await sluice("audit", "--sample", "100", folder=tmp_path, environ=environ)
    assert ended.code == 0
    assert ended.out.endswith("every count is exact\n")


async def test_the_command_writes_nothing_unless_it_repairs(counted: Index, tmp_path: Path) -> None:
    environ = {"DATABASE_URL": counted.url}
    await set_count(counted, "likeCount", 5)
    name = urlsplit(counted.url).path.removeprefix("/")
    await counted.pool.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    assert (await sluice("audit", folder=tmp_path, environ=environ)).code == 1
    ended = await sluice("audit", "--repair", folder=tmp_path, environ=environ)
    assert (ended.code, ended.out) == (2, "")
    assert ended.error.startswith("the audit broke off: cannot execute INSERT in a read-only transaction")


async def test_the_command_does_not_start_without_a_database_to_audit(database_url: str, tmp_path: Path) -> None:
    for environ, said in (
        ({"DATABASE_URL": database_url}, "table bsky.actor is missing"),
        ({"DATABASE_URL": f"postgres://127.0.0.1:{free_port()}/x"}, "postgres does not answer"),
        ({"DATABASE_URL": database_url, "DATABASE_SCHEMA": "a b"}, "cannot be a schema"),
    ):
        ended = await sluice("audit", folder=tmp_path, environ=environ)
        assert (ended.code, ended.out) == (2, "")
        assert ended.error.startswith("cannot start: ")
        assert said in ended.error


async def test_a_long_audit_says_how_far_it_is(counted: Index) -> None:
    steps: list[int] = []
    report = await audit(counted.database, None, on_progress=steps.append)
    assert sum(steps) == report.checked["post_agg.likeCount"] + report.checked["profile_agg.followersCount"] > 0
