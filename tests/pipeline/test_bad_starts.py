"""Starts that cannot go well: one clear line, an exit code that says so, and nothing left behind."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from sluice.server import free_port
from tests.commands import Ended, daemon, leftovers, sluice
from tests.conftest import RECORDINGS
from tests.databases import connected

BASIC = RECORDINGS / "basic.tar.zst"
CANNOT_START = 2


def check_refused(ended: Ended, folder: Path, *said: str) -> None:
    assert (ended.code, ended.out) == (CANNOT_START, "")
    assert ended.error.startswith("cannot start: ")
    assert ended.error.count("\n") == 1
    for words in said:
        assert words in ended.error
    assert leftovers(folder) == []


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))  # noqa: S104 - as the daemons do, on every address
        holder.listen()
        yield holder.getsockname()[1]


@pytest.fixture
def servers(redis_url: str, migrated_url: str) -> dict[str, str]:
    """Settings with which every daemon would start."""
    return {"REDIS_URL": redis_url, "DATABASE_URL": migrated_url, "DATA_IS_DISPOSABLE": "true"}


# the command


async def test_a_recording_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    cut = tmp_path / "cut.tar.zst"
    cut.write_bytes(BASIC.read_bytes()[:9000])
    ended = await sluice("demo", str(cut), "--until-drained", folder=tmp_path)
    cut.unlink()
    check_refused(ended, tmp_path, "cut.tar.zst is no recording")


async def test_a_recording_that_is_not_there_is_refused(tmp_path: Path) -> None:
    ended = await sluice("demo", str(tmp_path / "none"), folder=tmp_path)
    check_refused(ended, tmp_path, "cannot read the recording", "No such file")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}", "127.0.0.1:{port}", "redis://:wrong@{redis}"])
async def test_a_redis_that_does_not_answer_is_refused(url: str, tmp_path: Path, redis_url: str) -> None:
    url = url.format(port=free_port(), redis=redis_url.rpartition("@")[2])
    ended = await sluice("demo", str(BASIC), "--redis-url", url, folder=tmp_path)
    check_refused(ended, tmp_path, "REDIS_URL")


@pytest.mark.parametrize(
    "url", ["postgresql://127.0.0.1:{port}/x", "postgres//x", "postgresql://postgres:wrong@{postgres}/postgres"]
)
async def test_a_postgres_that_does_not_answer_is_refused(
    url: str, tmp_path: Path, redis_url: str, postgres_server: str
) -> None:
    url = url.format(port=free_port(), postgres=urlsplit(postgres_server).netloc.rpartition("@")[2])
    ended = await sluice("demo", str(BASIC), "--redis-url", redis_url, "--postgres-url", url, folder=tmp_path)
    check_refused(ended, tmp_path, "postgres does not answer", "--postgres-url")


async def test_a_choice_that_there_is_not_is_refused(tmp_path: Path) -> None:
    ended = await sluice("demo", str(BASIC), "--backfill", "sometimes", folder=tmp_path)
    check_refused(ended, tmp_path, "--backfill sometimes: choose one of")


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    ended = await sluice("demo", str(BASIC), "--keep", "/proc/none", folder=tmp_path)
    check_refused(ended, tmp_path, "cannot make a folder for redis")


# the daemons


@pytest.mark.parametrize(
    ("module", "setting", "said"),
    [
        ("ingester", "INGESTER_BATCHSIZE=5", "INGESTER_BATCHSIZE is unknown"),
        ("backfiller", "LOG_LEVEL=INFO", "BACKFILLER_CONSUMER must be set"),
        ("indexer", "INDEXER_MODE=some", "INDEXER_MODE: 'some' is none of"),
        ("indexer", 'DATABASE_SCHEMA=b"sky', "cannot be a schema"),
    ],
)
async def test_a_setting_that_cannot_be_is_refused(
    tmp_path: Path, servers: dict[str, str], *, module: str, setting: str, said: str
) -> None:
    name, _, value = setting.partition("=")
    ended = await daemon(module, tmp_path, {**servers, name: value})
    check_refused(ended, tmp_path, said)


@pytest.mark.parametrize("module", ["ingester", "backfiller", "indexer"])
async def test_a_port_in_use_is_refused(module: str, tmp_path: Path, servers: dict[str, str], taken_port: int) -> None:
    setting = "BACKFILLER_METRICS_PORT" if module == "backfiller" else "METRICS_PORT"
    consumer = {"BACKFILLER_CONSUMER": "one"} if module == "backfiller" else {}
    ended = await daemon(module, tmp_path, {**servers, **consumer, setting: str(taken_port)})
    check_refused(ended, tmp_path, f"port {taken_port}", "in use")


async def test_a_redis_that_would_drop_streams_is_refused(
    tmp_path: Path, own_redis: Redis, own_redis_server: str
) -> None:
    await own_redis.config_set("maxmemory-policy", "allkeys-lru")
    ended = await daemon("ingester", tmp_path, {"REDIS_URL": own_redis_server, "DATA_IS_DISPOSABLE": "true"})
    check_refused(ended, tmp_path, "maxmemory-policy allkeys-lru")


async def test_a_postgres_that_may_forget_is_refused(tmp_path: Path, servers: dict[str, str]) -> None:
    ended = await daemon("indexer", tmp_path, {**servers, "DATA_IS_DISPOSABLE": "false"})
    check_refused(ended, tmp_path, "fsync=off")


async def test_a_database_without_tables_is_refused(tmp_path: Path, servers: dict[str, str], database_url: str) -> None:
    ended = await daemon("indexer", tmp_path, {**servers, "DATABASE_URL": database_url})
    check_refused(ended, tmp_path, "run: sluice migrate")


async def test_a_role_without_rights_is_refused(tmp_path: Path, servers: dict[str, str], migrated_url: str) -> None:
    role = f"reader_{free_port()}"
    address = urlsplit(migrated_url)
    url = address._replace(netloc=f"{role}:secret@{address.hostname}:{address.port}").geturl()
    async with connected(migrated_url) as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        try:
            await connection.execute(f"GRANT USAGE ON SCHEMA bsky, sluice_bsky TO {role}")
            await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA bsky TO {role}")
            ended = await daemon("indexer", tmp_path, {**servers, "DATABASE_URL": url})
        finally:
            await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    check_refused(ended, tmp_path, f"role {role} may not use")
    assert "secret" not in ended.error


async def test_a_cursor_that_is_no_number_is_refused(tmp_path: Path, redis: Redis, servers: dict[str, str]) -> None:
    await redis.set("firehose_live:cursor:127.0.0.1:9", "latest")
    relay = {"INGESTER_RELAY_HOSTS": "ws://127.0.0.1:9", "INGESTER_MODE": "firehose"}
    ended = await daemon("ingester", tmp_path, servers | relay)
    assert ended.code == CANNOT_START
    last_line = ended.error.splitlines()[-1]
    assert last_line.startswith("cannot start: firehose_live:cursor:127.0.0.1:9 holds 'latest'")
    assert "Traceback" not in ended.error
