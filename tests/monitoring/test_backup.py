"""Backups are read back: Postgres with the cursors that go with it, Prometheus, Grafana's folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from common.redis_connection import open_redis
from indexer.migrations import migrate
from ingester.gaps import GapLedger
from sluice.server import Place, Server, free_port, running
from sluice.stack import _located, embedded_postgres, embedded_redis
from tests.monitoring.tools import tool
from tests.monitoring.watch import Watch, is_ready, watching
from tests.rows import all_rows
from tests.waiting import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
HOME = Path(__file__).parents[2]
PROGRAMS = _located("embedded_postgres", "pginstall/bin/postgres", ("postgres",)).parent
CURSOR, LISTING = "firehose_live:cursor:relay", "repo_backfill:cursor:relay"
POST = "import sys, urllib.request as http; print(http.urlopen(sys.argv[-1], data=b'').read().decode())"
PASSWORD = "backup-and-restore"
DAEMONS = "backfiller1 indexer1 indexer3 ingester"  # all of the deployment's, whatever their number


@dataclass(frozen=True)
class Production:
    """What the scripts find. `volumes` holds what is restored, and Grafana's files."""

    volumes: Path
    redis: Redis
    postgres_url: str
    watch: Watch
    engine: dict[str, Any]

    def run(self, *command: str | Path, folder: Path = HOME) -> str:
        """What a script said that was called in this folder. Fails if it did not end with 0."""
        stands_in = f"{sys.executable} {HOME}/tests/monitoring/engine.py"
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        environ = {"ENGINE": json.dumps(self.engine), "COMPOSE": stands_in, "PATH": path, "PYTHONPATH": str(HOME)}
        ended = subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=False, timeout=100)
        assert ended.returncode == 0, (ended.stdout + ended.stderr).decode()
        return ended.stdout.decode()

    def calls(self) -> list[str]:
        return Path(self.engine["log"]).read_text().splitlines()

    async def rows(self) -> dict[str, Any]:
        connection = await asyncpg.connect(self.postgres_url)
        try:
            return dict(await all_rows(connection))
        finally:
            await connection.close()

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.postgres_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def production(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Production]:
    volumes = tmp_path_factory.mktemp("volumes")
    (volumes / "grafana").mkdir()
    (volumes / "prometheus").mkdir()
    wget = volumes / "wget"
    wget.write_text(f"#!{sys.executable}\n{POST}\n")
    wget.chmod(0o755)
    async with (
        embedded_redis() as redis_url,
        open_redis(redis_url) as redis,
        embedded_postgres(disposable=True) as server,
        watching({}) as watch,
    ):
        url = await _production_database(server)
        at = urlsplit(url)
        programs = {name: str(PROGRAMS / name) for name in ("pg_dump", "pg_restore", "psql")} | {"wget": str(wget)}
        engine = {
            "programs": programs,
            "environ": {
                **{"PGHOST": "127.0.0.1", "PGPORT": str(at.port), "PGPASSWORD": PASSWORD},
                "REDIS_URL": redis_url,
            },
            "folders": {
                "http://127.0.0.1:9090": watch.prometheus,
                "/prometheus/snapshots": f"{await _storage(watch)}/snapshots",
                "/prometheus": str(volumes / "prometheus"),
                "/var/lib/grafana": str(volumes / "grafana"),
            },
            "log": str(volumes / "log"),
            "services": ["redis", "status", "ingester", "indexer1", "indexer3", "backfiller1"],
        }
        yield Production(volumes, redis, url, watch, engine)


async def _production_database(server: str) -> str:
    """As in docker-compose.prod.yml: the user and the database bsky, with the schema. Its URL."""
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE ROLE bsky SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    await connection.execute("CREATE DATABASE bsky OWNER bsky")
    await connection.close()
    url = urlsplit(server)._replace(netloc=f"bsky:{PASSWORD}@127.0.0.1:{urlsplit(server).port}", path="/bsky").geturl()
    connection = await asyncpg.connect(url)
    await migrate(connection, "bsky")
    await connection.close()
    return url


async def _storage(watch: Watch) -> Path:
    async with watch.http.get(f"{watch.prometheus}/api/v1/status/flags") as answer:
        return Path((await answer.json())["data"]["storage.tsdb.path"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backup(production: Production) -> Path:
    await production.execute(
        "INSERT INTO bsky.actor (did, handle, \"indexedAt\") VALUES ('did:plc:a', 'a.test', '2026')"
    )
    await production.redis.mset({CURSOR: "40", LISTING: "page"})
    (production.volumes / "grafana" / "grafana.db").write_text("people's settings")
    await until(lambda: production.watch.value("count(up == 1)"))
    folder = production.volumes / "backup"
    production.run("ops/backup", folder)
    return folder


async def test_grafana_runs_again_after_the_backup(production: Production, backup: Path) -> None:
    about_grafana = [call for call in production.calls() if call.endswith("grafana")]
    assert about_grafana == ["stop grafana", "start grafana"]
    files = {"cursors.json", "postgres.dump", "prometheus.tar", "grafana.tar", "SHA256SUMS"}
    assert set(os.listdir(backup)) == files
    assert [name for name in (".", *files) if os.stat(backup / name).st_mode & 0o077] == []


async def test_postgres_comes_back_whole_with_the_cursors_that_go_with_it(production: Production, backup: Path) -> None:
    before = await production.rows()
    assert len(before["actor"]) == 1
    await production.execute(
        "UPDATE bsky.actor SET handle = 'b.test'; DROP TABLE bsky.like; CREATE TABLE bsky.extra (x int)"
    )
    await production.redis.mset({CURSOR: "90", LISTING: "later"})
    production.run("ops/restore", backup, "postgres")
    assert await production.rows() == before
    assert await production.redis.mget(CURSOR, LISTING) == [b"40", b"later"]
    assert [(gap.kind, gap.after, gap.before) for gap in await GapLedger(production.redis).all()] == [
        ("cursor_set", 90, 40)
    ]
    calls = production.calls()
    restored = next(at for at, call in enumerate(calls) if "pg_restore --username" in call)
    assert calls.index(f"stop {DAEMONS}") < restored < calls.index(f"start {DAEMONS}")


@pytest.mark.parametrize(
    "broken", [{"programs": {"pg_restore": "false"}}, {"environ": {"REDIS_URL": "redis://127.0.0.1:9"}}], ids=str
)
async def test_a_restore_that_fails_leaves_postgres_as_it_was_and_the_daemons_running(
    production: Production, backup: Path, broken: dict[str, Any]
) -> None:
    await production.execute("CREATE TABLE bsky.since_then (x int)")
    engine = production.engine | {part: production.engine[part] | words for part, words in broken.items()}
    with pytest.raises(AssertionError, match=r"NOT RESTORED: .* Postgres is as it was"):
        replace(production, engine=engine).run("ops/restore", backup, "postgres")
    assert production.calls()[-1] == f"start {DAEMONS}"
    await production.execute("DROP TABLE bsky.since_then")


async def test_a_backup_that_fails_leaves_nothing_behind_and_grafana_running(production: Production) -> None:
    folder = production.volumes / "failed"
    engine = production.engine | {"programs": production.engine["programs"] | {"tar": "false"}}
    with pytest.raises(AssertionError, match=rf"NO BACKUP: .* delete {folder}"):
        replace(production, engine=engine).run("ops/backup", folder)
    assert list((await _storage(production.watch) / "snapshots").iterdir()) == []
    with pytest.raises(AssertionError, match=r"SHA256SUMS"):
        production.run("ops/restore", folder, "postgres")


async def test_repos_are_listed_again_where_that_is_asked_for(production: Production, backup: Path) -> None:
    await production.redis.mset({CURSOR: "40", LISTING: "later"})
    production.run("env", "LIST_AGAIN=yes", "ops/restore", backup, "postgres")
    assert await production.redis.mget(CURSOR, LISTING) == [b"40", None]


async def test_prometheus_comes_back_with_what_it_had_measured(production: Production, backup: Path) -> None:
    (production.volumes / "prometheus" / "left").write_text("from before")
    production.run("ops/restore", backup, "prometheus")
    assert not (production.volumes / "prometheus" / "left").exists()
    server = running("prometheus", None, _on(production.volumes), user=None, port=free_port, temporary_in=None)
    async with server as url, aiohttp.ClientSession() as http:
        restored = Watch(http, url, "", production.watch.listener)
        assert await restored.value('count(max_over_time(up{service="prometheus"}[1h]))') == 1


def _on(volumes: Path) -> Any:
    def server_at(place: Place) -> Server:
        (place.home / "prometheus.yml").write_text("{}")
        command = (
            *(tool("prometheus"), f"--config.file={place.home}/prometheus.yml"),
            *(f"--storage.tsdb.path={volumes}/prometheus", f"--web.listen-address=127.0.0.1:{place.port}"),
        )
        return Server(f"http://127.0.0.1:{place.port}", (command,), is_ready, signal.SIGTERM)

    return server_at


async def test_grafana_comes_back_as_it_was(production: Production, backup: Path) -> None:
    (production.volumes / "grafana" / "grafana.db").write_text("spoilt")
    (production.volumes / "grafana" / "more").write_text("more")
    production.run(HOME / "ops" / "restore", backup.name, "grafana", folder=backup.parent)
    assert {path.name: path.read_text() for path in (production.volumes / "grafana").iterdir()} == {
        "grafana.db": "people's settings"
    }


async def test_a_damaged_backup_is_not_restored(production: Production, backup: Path) -> None:
    damaged = production.volumes / "damaged"
    shutil.copytree(backup, damaged)
    (damaged / "cursors.json").write_text("{}")
    with pytest.raises(AssertionError, match=r"cursors\.json: FAILED"):
        production.run("ops/restore", damaged, "postgres")
