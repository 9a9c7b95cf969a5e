"""A database that is not as it must be is refused: other tables or files, too few rights, commits that can be lost."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from common.errors import CannotStart
from indexer.migrations import check_durability, check_schema, migrate
from indexer.schema import NEEDED, NEEDED_OWN
from tests.catalogue import catalogue
from tests.schema import OWN, SCHEMA, appview_migrates
from tests.waiting import until


@pytest.fixture
async def role(connection: asyncpg.Connection) -> AsyncIterator[str]:
    """A role that may do nothing but connect."""
    name = f"test_{uuid4().hex}"
    await connection.execute(f"CREATE ROLE {name}")
    yield name
    await connection.execute(f"RESET ROLE; DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_schema_that_an_old_appview_made_is_refused(connection: asyncpg.Connection) -> None:
    await appview_migrates(connection)
    await connection.execute(f"DROP TABLE {SCHEMA}.post_embed_gallery_image")
    with pytest.raises(CannotStart, match=r"post_embed_gallery_image is missing; if the AppView made it"):
        await migrate(connection, SCHEMA)


async def test_tables_of_somebody_else_are_not_touched(connection: asyncpg.Connection) -> None:
    await connection.execute(f"CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.post (id integer)")
    with pytest.raises(CannotStart, match=r'0004_appview_posts .* relation "post" already exists'):
        await migrate(connection, SCHEMA)
    assert list((await catalogue(connection, SCHEMA))["post"]["columns"]) == ["id"]


async def test_an_applied_file_that_was_changed_is_refused(connection: asyncpg.Connection) -> None:
    await migrate(connection, SCHEMA)
    await connection.execute(f"UPDATE {OWN}.migration SET checksum = 'other' WHERE version = 5")
    with pytest.raises(CannotStart, match="0005_appview_feeds was changed after it was applied"):
        await migrate(connection, SCHEMA)


async def test_a_role_without_rights_is_told_so_in_one_line(connection: asyncpg.Connection, role: str) -> None:
    await connection.execute(f"SET ROLE {role}")
    with pytest.raises(CannotStart, match=r"cannot apply 0001_own_migration .* permission denied") as refusal:
        await migrate(connection, SCHEMA)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("rights", "refused"),
    [
        ("SELECT ON ALL TABLES IN SCHEMA {schemas}", "bsky.actor, bsky.actor_block, .* and [0-9]+ more$"),
        ("ALL ON ALL TABLES IN SCHEMA {schemas}", "bsky.notification_id_seq$"),
    ],
)
async def test_a_role_that_cannot_write_cannot_start(
    connection: asyncpg.Connection, role: str, rights: str, refused: str
) -> None:
    await migrate(connection, SCHEMA)
    schemas = f"{SCHEMA}, {OWN}"
    await connection.execute(
        f"GRANT USAGE ON SCHEMA {schemas} TO {role}; GRANT {rights.format(schemas=schemas)} TO {role}; SET ROLE {role}"
    )
    with pytest.raises(CannotStart, match=f"role {role} may not use {refused}"):
        await check_schema(connection, SCHEMA)


async def test_a_role_that_may_only_read_and_write_rows_can_start(connection: asyncpg.Connection, role: str) -> None:
    await migrate(connection, SCHEMA)
    await connection.execute(
        f"GRANT USAGE ON SCHEMA {SCHEMA}, {OWN} TO {role}; GRANT USAGE ON ALL SEQUENCES IN SCHEMA {SCHEMA} TO {role};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA}, {OWN} TO {role};"
        f"REVOKE INSERT, UPDATE, DELETE ON {SCHEMA}.thread_mute FROM {role}; SET ROLE {role}"
    )
    await check_schema(connection, SCHEMA)
    assert await migrate(connection, SCHEMA) == []


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("ALTER TABLE bsky.record DROP COLUMN rev", "column bsky.record.rev is missing"),
        ("DROP TABLE bsky.quote", "table bsky.quote is missing"),
        ("ALTER TABLE bsky.post ALTER langs TYPE text", "column bsky.post.langs is text, not jsonb"),
        ("DROP TABLE sluice_bsky.tombstone", "table sluice_bsky.tombstone is missing"),
        ("DROP SCHEMA sluice_bsky CASCADE", "table sluice_bsky.repo is missing"),
    ],
)
async def test_what_is_missing_is_named(connection: asyncpg.Connection, damage: str, named: str) -> None:
    await migrate(connection, SCHEMA)
    await check_schema(connection, SCHEMA)
    await connection.execute(damage)
    with pytest.raises(CannotStart, match=f"{named}.*; run: sluice migrate$"):
        await check_schema(connection, SCHEMA)


async def test_an_empty_database_is_not_a_schema(connection: asyncpg.Connection) -> None:
    missing = len(NEEDED) + len(NEEDED_OWN) - 5
    with pytest.raises(CannotStart, match=f"table bsky.actor is missing.* and {missing} more; run: sluice migrate"):
        await check_schema(connection, SCHEMA)


@pytest.mark.parametrize("name", ["", "b-sky", 'b"; --', "1bsky", "pg_bsky", "b" * 57, "bsky\n", "bský"])
async def test_a_schema_name_that_is_not_plain_is_refused(connection: asyncpg.Connection, name: str) -> None:
    with pytest.raises(CannotStart, match="cannot be a schema"):
        await migrate(connection, name)


@pytest.mark.parametrize("unsafe", ["off", "local", "remote_write"])
async def test_a_commit_that_a_crash_can_lose_is_refused(connection: asyncpg.Connection, unsafe: str) -> None:
    await connection.execute(f"SET synchronous_commit TO {unsafe}")
    with pytest.raises(CannotStart, match=f"synchronous_commit={unsafe}"):
        await check_durability(connection)
    await check_durability(connection, disposable=True)


async def is_off(connection: asyncpg.Connection, setting: str) -> bool:
    return bool(await connection.fetchval("SELECT current_setting($1)", setting) == "off")


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_can_lose_commits_is_refused(connection: asyncpg.Connection, setting: str) -> None:
    try:
        await connection.execute(f"ALTER SYSTEM SET {setting} TO off")
        await connection.execute("SELECT pg_reload_conf()")
        await until(lambda: is_off(connection, setting))
        with pytest.raises(CannotStart, match=f"{setting}=off"):
            await check_durability(connection)
        await check_durability(connection, disposable=True)
    finally:
        await connection.execute(f"ALTER SYSTEM RESET {setting}")
        await connection.execute("SELECT pg_reload_conf()")
