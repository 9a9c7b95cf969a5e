"""What a session hands to Postgres and leaves behind there."""

import asyncio
from collections.abc import Sequence

import pytest

from indexer.app import open_pool
from indexer.database import Database
from indexer.packing import packed
from indexer.settings import Settings
from tests.indexing import Index

TEXTS = (
    [],
    [""],
    [None],
    ["", ""],
    ["a", None, "", "b"],
    ["plain", 'quoted "\\{}, é 🙂 \n\t'],
    ["\x1f"],
    ["\x1e"],
    ["a\x1fb", None],
    [None, "a\x1eb"],
    ["\x1e\x1f\x1e", "NULL"],
)


@pytest.mark.parametrize("texts", TEXTS, ids=ascii)
async def test_texts_arrive_as_they_are(texts: Sequence[str | None], index: Index) -> None:
    async with index.database.transaction() as session:
        rows = await session.fetch("SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS t(value, n) ORDER BY n", texts)
    assert [row["value"] for row in rows] == texts


async def test_texts_stand_beside_one_another_and_beside_other_types(index: Index) -> None:
    names, numbers, notes = ["a", "b"], [1, 2], ["", None]
    statement = "SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])"
    async with index.database.transaction() as session:
        rows = await session.fetch(statement, names, numbers, notes)
    assert [tuple(row) for row in rows] == [("a", 1, ""), ("b", 2, None)]


def test_lists_of_texts_travel_as_one_text() -> None:
    statement, sent = packed("SELECT $1::text[], $2::bigint[], $1::text[]", [["a", None], [1]])
    assert "text[]" not in statement
    assert sent == ["\x1fa\x1f\x1e", [1]]


@pytest.mark.parametrize("given", [["\x1f"], ["\x1e", None]], ids=ascii)
def test_a_separator_in_a_value_leaves_all_as_it_was(given: list[str | None]) -> None:
    assert packed("SELECT $1::text[], $2::text[]", [["a"], given]) == (
        "SELECT $1::text[], $2::text[]",
        [["a"], given],
    )


async def test_a_transaction_lands_whole_and_leaves_no_setting_behind(migrated_url: str) -> None:
    """On the daemon's own pool, which resets nothing between two uses of a connection."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    settings = Settings(database_url=migrated_url, data_is_disposable=True, pool_size=1)
    async with await open_pool(settings) as pool:
        database = Database(pool, "bsky")

        async def fail_after_writing() -> None:
            async with database.transaction() as session:
                await session.execute("INSERT INTO {own}.unplaced VALUES ('dropped')")
                raise ZeroDivisionError

        async with database.transaction() as session:
            assert (await session.fetch("SHOW enable_seqscan"))[0][0] == "off"
            await session.execute("INSERT INTO {own}.unplaced VALUES ('kept')")
        assert await pool.fetchval("SHOW enable_seqscan") == "on"
        with pytest.raises(ZeroDivisionError):
            await fail_after_writing()
        assert await pool.fetchval("SHOW enable_seqscan") == "on"
        assert [tuple(row) for row in await pool.fetch("SELECT uri FROM sluice_bsky.unplaced")] == [("kept",)]
    assert complaints == []
