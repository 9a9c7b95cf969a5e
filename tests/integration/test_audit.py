"""The auditor finds every count that is not what COUNT(*) says, and nothing else, and mends it."""

import random

import pytest

from indexer.audit import LISTED, PORTION, Difference, audit
from indexer.deletions import remove_account
from tests import factories as make
from tests.auditing import BOBS, COLUMNS, check_exact, drift, drop_aggregate, set_count
from tests.factories import ALICE, BOB, CAROL, DAN, FOLLOW, LIKE, POST, REPOST, moment, uri
from tests.histories import GATE, history
from tests.indexing import Index


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


async def test_a_long_audit_says_how_far_it_is(counted: Index) -> None:
    steps: list[int] = []
    report = await audit(counted.database, None, on_progress=steps.append)
    assert sum(steps) == report.checked["post_agg.likeCount"] + report.checked["profile_agg.followersCount"] > 0
