"""`sluice audit`: what it says, its exit codes, and that it writes only when it is to repair."""

from pathlib import Path
from urllib.parse import urlsplit

from sluice.server import free_port
from tests.auditing import BOBS, drop_aggregate, set_count
from tests.commands import sluice
from tests.factories import ALICE
from tests.indexing import Index


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
