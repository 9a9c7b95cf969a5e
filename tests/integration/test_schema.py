"""The database that the migrations make is the AppView's, with ours beside it, whoever began it."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from indexer.migrations import check_schema, migrate
from indexer.records import HANDLERS
from indexer.schema import NEEDED, NEEDED_OWN, NEEDED_SINCE, column_types, migrations
from tests.catalogue import catalogue
from tests.schema import OWN, SCHEMA, appview_migrates

APPVIEW = Path(__file__).parents[1] / "data" / "bsky-schema.json"
ALL_FILES = [migration.name for migration in migrations()]
OWN_FILES = [migration.name for migration in migrations() if migration.is_own]
VARCHAR = {"type": "character varying", "nullable": True, "default": None}


def appview_relations() -> dict[str, dict[str, Any]]:
    """The live catalogue of @atproto/bsky 0.0.275."""
    relations: dict[str, dict[str, Any]] = json.loads(APPVIEW.read_text())["tables"]
    for relation in relations.values():
        del relation["rows"]
    return relations


async def test_the_migrated_schema_is_that_of_the_appview_and_a_rev(connection: asyncpg.Connection) -> None:
    assert await migrate(connection, SCHEMA) == ALL_FILES
    expected = appview_relations()
    expected["record"]["columns"]["rev"] = VARCHAR
    actual = await catalogue(connection, SCHEMA)
    assert sorted(actual) == sorted(expected)
    for name, relation in expected.items():
        assert actual[name] == relation, name
        assert list(actual[name]["columns"]) == list(relation["columns"]), name


async def test_every_migration_of_the_appview_is_marked_as_executed(connection: asyncpg.Connection) -> None:
    await migrate(connection, SCHEMA)
    rows = await connection.fetch(f"SELECT name, timestamp FROM {SCHEMA}.kysely_migration ORDER BY timestamp, name")
    names = [row["name"] for row in rows]
    assert len(names) == 58
    assert names[0] == "_20230309T045948368Z"
    assert names[-1] == "_20260729T223157563Z"
    assert all(re.fullmatch(r"_\d{8}T\d{9}Z", name) for name in names)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["timestamp"]) for row in rows)
    lock = await connection.fetch(f"SELECT id, is_locked FROM {SCHEMA}.kysely_migration_lock")
    assert [tuple(row) for row in lock] == [("migration_lock", 0)]


async def test_the_rows_that_the_appview_seeds_are_there(connection: asyncpg.Connection) -> None:
    await migrate(connection, SCHEMA)
    rows = dict(await connection.fetch(f"SELECT name, value FROM {SCHEMA}.view_param"))
    assert rows == {"whats_hot_like_threshold": "2", "whats_hot_interval": "1day"}


async def test_what_is_ours_has_its_keys_and_compares_by_bytes(connection: asyncpg.Connection) -> None:
    await migrate(connection, SCHEMA)
    own = await catalogue(connection, OWN)
    assert {name: relation["primaryKey"] for name, relation in own.items()} == {
        "repo": ["did"],
        "tombstone": ["uri"],
        "life": ["uri", "rev"],
        "snapshot": ["did", "rev", "records"],
        "handle_check": ["did"],
        "deletion_check": ["did"],
        "resync": ["did"],
        "dead_letter": ["id"],
        "unplaced": ["uri"],
        "lost": ["subject", "uri"],
        "forbidden": ["uri"],
        "label_version": ["src", "uri", "cid", "val"],
        "migration": ["version"],
    }
    del own["migration"]
    assert {name: list(relation["columns"]) for name, relation in own.items()} == {
        name: list(column_types(columns)) for name, columns in NEEDED_OWN.items()
    }
    assert own["dead_letter"]["unique"] == {"dead_letter_unique_entry": ["stream", "entry_id"]}
    assert {
        "tombstone_did_idx",
        "life_parent_idx",
        "unplaced_root_idx",
        "lost_uri_idx",
        "handle_check_due_at_idx",
        "deletion_check_due_at_idx",
        "resync_due_at_idx",
    } <= {index for relation in own.values() for index in relation["indexes"]}
    by_bytes = await connection.fetch(
        "SELECT a.attname, a.attcollation = '\"C\"'::regcollation FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'"
        " WHERE (c.relnamespace = $1::text::regnamespace AND a.attname IN ('did', 'rev', 'floor_rev', 'uri'))"
        " OR a.attrelid = 'bsky.record'::regclass AND a.attname = 'rev'",
        OWN,
    )
    assert len(by_bytes) == 19
    assert all(is_c for _, is_c in by_bytes)


async def test_migrating_twice_changes_nothing(connection: asyncpg.Connection) -> None:
    await migrate(connection, SCHEMA)
    before = await catalogue(connection, SCHEMA), await catalogue(connection, OWN)
    assert await migrate(connection, SCHEMA) == []
    assert (await catalogue(connection, SCHEMA), await catalogue(connection, OWN)) == before


async def test_two_migrators_at_once_apply_each_file_once(database_url: str) -> None:
    connections = [await asyncpg.connect(database_url) for _ in range(2)]
    first, second = await asyncio.gather(*(migrate(connection, SCHEMA) for connection in connections))
    for connection in connections:
        await connection.close()
    assert sorted(first + second) == ALL_FILES


async def test_labels_that_were_there_before_have_a_version(connection: asyncpg.Connection) -> None:
    await appview_migrates(connection)
    cts = "2025-03-01T12:00:00.000Z"
    await connection.execute(
        f"INSERT INTO {SCHEMA}.label (src, uri, cid, val, neg, cts) VALUES ('did:a', 'did:b', '', 'spam', true, $1)",
        cts,
    )
    await migrate(connection, SCHEMA)
    versions = await connection.fetch(f"SELECT src, uri, cid, val, cts, seq FROM {OWN}.label_version")
    assert [tuple(row) for row in versions] == [("did:a", "did:b", "", "spam", cts, 0)]


async def test_a_schema_that_the_appview_made_gets_only_what_is_ours(connection: asyncpg.Connection) -> None:
    await appview_migrates(connection)
    before = await catalogue(connection, SCHEMA)
    assert await migrate(connection, SCHEMA) == OWN_FILES
    before["record"]["columns"]["rev"] = VARCHAR
    assert await catalogue(connection, SCHEMA) == before
    assert await migrate(connection, SCHEMA) == []
    await check_schema(connection, SCHEMA)


async def test_a_new_file_for_the_appviews_tables_reaches_a_schema_that_we_made(connection: asyncpg.Connection) -> None:
    await migrate(connection, SCHEMA)
    await connection.execute(f"DROP TABLE {SCHEMA}.notification, {SCHEMA}.actor_state")
    await connection.execute(f"DELETE FROM {OWN}.migration WHERE version = 7")
    assert await migrate(connection, SCHEMA) == ["0007_appview_notifications"]


def test_every_column_that_a_record_fills_is_checked_before_the_start() -> None:
    all_needed = {**NEEDED, **NEEDED_SINCE["0.0.280"]}
    for table in {table for handler in HANDLERS.values() for table in handler.tables}:
        checked = column_types(all_needed[table.name])
        assert set(table.columns) <= set(checked), table.name
        assert {column: checked[column] for column in table.types} == dict(table.types), table.name


@pytest.mark.parametrize("name", ["public", "Bsky_2", "like"])
async def test_any_plain_schema_name_will_do(connection: asyncpg.Connection, name: str) -> None:
    assert await migrate(connection, name) == ALL_FILES
    await check_schema(connection, name)
