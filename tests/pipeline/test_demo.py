"""`sluice demo`: recorded networks through the real daemons, down to the very rows that the original wrote."""

import asyncio
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from common.dag_cbor import cid_of, cid_text
from common.dag_json import json_to_block
from sluice.recording import Recording
from tests.commands import PATIENCE_SECONDS, ROOT, SLUICE, Ended, leftovers, run, sluice
from tests.conftest import RECORDINGS, SHIPPED_RECORDINGS
from tests.databases import connected
from tests.expected_rows import differences, expected_rows, rows_of, unexplained
from tests.rows import Rows, all_rows
from tests.unseen_history import Unseen, timeless


def path_of(recording: str) -> str:
    folder = SHIPPED_RECORDINGS if recording == "full" else RECORDINGS
    return str(folder / f"{recording}.tar.zst")


async def demo(recording: str, folder: Path, redis_url: str, postgres_url: str, *options: str) -> Ended:
    servers = ("--redis-url", redis_url, "--postgres-url", postgres_url)
    return await sluice("demo", path_of(recording), "--until-drained", "--json", *servers, *options, folder=folder)


async def differing(url: str, recording: str) -> list[str]:
    """What is not as the original wrote it, although no page says that it may be so."""
    async with connected(url) as connection:
        return unexplained(recording, differences(await rows_of(connection), expected_rows(recording)))


async def misnamed(url: str) -> list[str]:
    """Records whose CID cannot be computed from what is stored of them."""
    records = (await appview_tables(url))["record"]
    assert len(records) > 10
    return [row["uri"] for row in records if cid_text(cid_of(json_to_block(row["json"].encode()))) != row["cid"]]


async def appview_tables(url: str) -> Rows:
    """All but the revs, which a backfill lifts."""
    async with connected(url) as connection:
        tables = await all_rows(connection, without={"record": ["rev"]})
    return {table: rows for table, rows in tables.items() if not table.startswith("sluice.")}


@pytest.mark.parametrize("recording", ["basic", "follows", "full"])
async def test_a_recorded_network_ends_in_the_rows_of_the_original(
    recording: str, tmp_path: Path, redis_url: str, migrated_url: str
) -> None:
    ended = await demo(recording, tmp_path, redis_url, migrated_url)
    assert (ended.code, ended.error) == (0, "")
    assert ended.result["accounted"]
    assert ended.result["faults"] == []
    events = ended.result["events"]
    assert events["received"] == events["written"] + events["filtered"] + events["dropped"]
    assert events["received"] > 0
    assert ended.result["backfill"]["changed_tables"] == []
    assert await differing(migrated_url, recording) == []
    assert await misnamed(migrated_url) == []
    assert leftovers(tmp_path) == []


async def test_many_indexers_and_then_all_of_it_again_make_the_same_rows(
    tmp_path: Path, redis: Redis, redis_url: str, migrated_url: str
) -> None:
    first = await demo("load-tiny", tmp_path, redis_url, migrated_url, "--indexers", "3", "--backfill", "none")
    assert (first.code, first.error) == (0, "")
    assert await differing(migrated_url, "load-tiny") == []
    before = await appview_tables(migrated_url)
    await redis.flushdb()
    again = await demo("load-tiny", tmp_path, redis_url, migrated_url)
    assert (again.code, again.error) == (0, "")
    assert again.result["frames"] == first.result["frames"] == 2108
    assert again.result["backfill"]["changed_tables"] == []
    assert await appview_tables(migrated_url) == before


@pytest.mark.parametrize("recording", ["load-tiny", "full"])
async def test_live_events_and_a_backfill_at_once_give_the_rows_of_live_events_alone(
    recording: str, tmp_path: Path, redis_url: str, migrated_url: str
) -> None:
    ended = await demo(recording, tmp_path, redis_url, migrated_url, "--backfill", "mixed", "--indexers", "2")
    assert (ended.code, ended.error) == (0, "")
    found = await differing(migrated_url, recording)
    assert [row for row in found if "app.bsky.graph.verification/" not in row] == []  # docs/differences.md


async def test_it_brings_its_own_servers_and_takes_them_with_it(open_folder: Path) -> None:
    ended = await sluice("demo", path_of("follows"), "--until-drained", "--json", folder=open_folder)
    assert (ended.code, ended.error) == (0, "")
    assert ended.result["rows"]["follow"] == 12
    assert leftovers(open_folder) == []


async def test_the_rights_in_redis_that_the_docs_name_are_enough(
    tmp_path: Path, own_redis: Redis, own_redis_server: str, migrated_url: str
) -> None:
    (rights,) = re.findall(r"\*\*Redis\*\*: an ACL user of `([^`]+)`", (ROOT / "docs/operations.md").read_text("utf-8"))
    await own_redis.execute_command("ACL", "SETUSER", "sluice", "on", ">word", *rights.split())
    url = (
        urlsplit(own_redis_server)._replace(netloc=f"sluice:word@127.0.0.1:{urlsplit(own_redis_server).port}").geturl()
    )
    ended = await demo("full", tmp_path, url, migrated_url)
    assert (ended.code, ended.error) == (0, "")
    for words in (("gaps",), ("cursor", "show"), ("status", "backfill"), ("dead", "list"), ("cursor", "save")):
        commanded = await sluice(*words, folder=tmp_path, environ={"REDIS_URL": url, "DATABASE_URL": migrated_url})
        assert (commanded.code, commanded.error) == (0, ""), words


async def test_a_person_is_told_what_became_of_it(tmp_path: Path, redis_url: str, migrated_url: str) -> None:
    servers = ("--redis-url", redis_url, "--postgres-url", migrated_url)
    ended = await sluice("demo", path_of("basic"), "--until-drained", "--backfill", "none", *servers, folder=tmp_path)
    assert ended.code == 0
    assert "60 frames, 62 events received = 56 written + 2 filtered + 4 dropped; 0 dead letters" in ended.out
    assert "http://127.0.0.1:" in ended.out


async def test_commands_in_another_terminal_find_a_demo_by_its_file(
    tmp_path: Path, redis_url: str, migrated_url: str
) -> None:
    command = (*SLUICE, "demo", path_of("basic"), "--redis-url", redis_url, "--postgres-url", migrated_url)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    playing = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=PIPE, cwd=tmp_path, env=environ)
    assert playing.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            said = (await playing.stderr.readuntil(b"/environment\n")).decode()
        file = said.split()[-1]
        assert os.stat(file).st_mode & 0o777 == 0o600, "it holds passwords"
        for words in ("status --json", "verify --json", "gaps --json"):
            ended = await run("sh", "-c", f'. {file}; exec "$@" {words}', "sh", *SLUICE, folder=tmp_path)
            assert (ended.code, ended.error) == (0, ""), words
    finally:
        playing.terminate()
        await playing.communicate()
    assert leftovers(tmp_path) == []


async def test_a_pipeline_on_a_network_that_is_not_there_says_so_and_stops_when_told(open_folder: Path) -> None:
    command = (*SLUICE, "up", "--relay", "127.0.0.1:1")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(open_folder)}
    running = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=PIPE, cwd=open_folder, env=environ)
    assert running.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            said = await running.stderr.readuntil(b"trouble: Not connected to 127.0.0.1:1 (firehose).\n")
            said += await running.stderr.readuntil(b"waiting: nothing\n")
    finally:
        running.send_signal(signal.SIGINT)
        await running.communicate()
    assert running.returncode == 130
    assert f"{open_folder}/sluice-up-" in said.decode()
    assert leftovers(open_folder) == []


@pytest.mark.parametrize("recording", ["basic", "follows", "load-tiny", "full"])
async def test_a_backfill_alone_makes_the_rows_of_the_original_but_for_what_only_history_tells(
    recording: str, tmp_path: Path, redis_url: str, migrated_url: str
) -> None:
    ended = await demo(recording, tmp_path, redis_url, migrated_url, "--backfill", "only")
    assert (ended.code, ended.error) == (0, "")
    async with connected(migrated_url) as connection:
        found = differences(timeless(await rows_of(connection)), timeless(expected_rows(recording)))
    with Recording.open(Path(path_of(recording))) as opened:
        unseen = Unseen(opened)
    assert [line for line in found if not unseen.explain(line)] == []
    assert bool(found) == (recording in ("load-tiny", "full"))  # the others have no history
