"""`sluice dead`: letters of both kinds, shown, replayed and dropped."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from redis.asyncio import Redis

from common.events import RepoJob, encode_event
from tests.backfilling import DLQ, HIGH, INPUT
from tests.commands import Ended, sluice
from tests.databases import connected

DIDS = [f"did:plc:aaaaaaaaaaaaaaaaaaaaaaa{letter}" for letter in "abc"]
URI = f"at://{DIDS[0]}/app.bsky.feed.post/a"


@pytest.fixture
def servers(redis_url: str, migrated_url: str) -> dict[str, str]:
    return {"REDIS_URL": redis_url, "DATABASE_URL": migrated_url}


async def bury_repos(redis: Redis) -> None:
    for did, priority, reason in zip(DIDS, ("high", "normal", "normal"), ("a", "a", "b"), strict=True):
        job = RepoJob(
            did=did, rev="3mfxgt2k7ircm", attempts=3, priority=priority, history=("2026-11-20T00:00:00.000Z timeout",)
        )
        fields = {"repo": encode_event(job), "reason": reason, "attempts": "3", "error": "timeout", "detail": "none"}
        await redis.xadd(DLQ, fields)


async def bury_records(url: str, reason: str = "refused_by_postgres") -> None:
    async with connected(url) as connection:
        for entry, stream in (("1-0", "firehose_live"), ("2-0", "label_live")):
            await connection.execute(
                "INSERT INTO sluice_bsky.dead_letter (stream, entry_id, did, uri, reason, sqlstate, payload, error)"
                " VALUES ($1, $2, $3, $4, $5, '22021', $6, 'a NUL')",
                *(stream, entry, DIDS[0], URI, reason, f"payload {entry}".encode()),
            )


async def dead(*arguments: str, folder: Path, environ: Mapping[str, str]) -> Ended:
    return await sluice("dead", *arguments, folder=folder, environ=environ)


async def listed(folder: Path, environ: Mapping[str, str], *options: str) -> list[dict[str, str]]:
    ended = await dead("list", "--json", *options, folder=folder, environ=environ)
    assert ended.code == 0, ended.error
    return [json.loads(line) for line in ended.out.splitlines()]


async def test_letters_of_both_kinds_are_shown_with_what_happened(
    redis: Redis, migrated_url: str, servers: dict[str, str], tmp_path: Path
) -> None:
    await bury_repos(redis)
    await bury_records(migrated_url)
    letters = await listed(tmp_path, servers)
    assert [(letter["id"].split(":")[0], letter["about"]) for letter in letters] == [
        *(("repo", did) for did in DIDS),
        *(("record", URI),) * 2,
    ]
    assert len(await listed(tmp_path, servers, "--kind", "repo", "--reason", "a")) == 2
    assert len(await listed(tmp_path, servers, "--limit", "1")) == 2
    table = await dead("list", folder=tmp_path, environ=servers)
    assert "record refused_by_postgres: 2, repo a: 2, repo b: 1" in table.out
    shown = await dead("show", letters[0]["id"], folder=tmp_path, environ=servers)
    assert shown.result["history"] == ["2026-11-20T00:00:00.000Z timeout"]
    assert json.loads(shown.result["payload"])["did"] == DIDS[0]
    shown = await dead("show", letters[3]["id"], folder=tmp_path, environ=servers)
    assert (shown.result["payload"], shown.result["error"]) == ("payload 1-0", "22021 a NUL")
    missing = await dead("show", "repo:1-1", folder=tmp_path, environ=servers)
    assert (missing.code, "no such dead letter" in missing.error) == (1, True)


async def test_a_replayed_letter_is_back_on_its_stream_and_no_letter_any_more(
    redis: Redis, migrated_url: str, servers: dict[str, str], tmp_path: Path
) -> None:
    await bury_repos(redis)
    await bury_records(migrated_url)
    ended = await dead("replay", "--reason", "a", folder=tmp_path, environ=servers)
    assert (ended.code, ended.out) == (0, "2 replayed\n")
    assert await redis.xlen(DLQ) == 1
    for stream, did, priority in ((HIGH, DIDS[0], "high"), (INPUT, DIDS[1], "normal")):
        [(_, fields)] = await redis.xrange(stream)
        assert json.loads(fields[b"repo"]) == json.loads(
            encode_event(RepoJob(did=did, rev="3mfxgt2k7ircm", priority="high" if priority == "high" else "normal"))
        )
    ended = await dead("replay", "--all", "--kind", "record", folder=tmp_path, environ=servers)
    assert (ended.code, ended.out) == (0, "2 replayed\n")
    assert [fields for _, fields in await redis.xrange("firehose_live")] == [{b"event": b"payload 1-0"}]
    assert [fields for _, fields in await redis.xrange("label_live")] == [{b"labels": b"payload 2-0"}]
    assert [letter["about"] for letter in await listed(tmp_path, servers)] == [DIDS[2]]


async def test_a_dropped_letter_is_gone_and_the_others_stay(
    redis: Redis, migrated_url: str, servers: dict[str, str], tmp_path: Path
) -> None:
    await bury_repos(redis)
    await bury_records(migrated_url)
    letters = await listed(tmp_path, servers)
    wanted = [letters[1]["id"], letters[3]["id"]]
    ended = await dead("drop", *wanted, folder=tmp_path, environ=servers)
    assert (ended.code, ended.out) == (0, "2 dropped\n")
    assert [letter["id"] for letter in await listed(tmp_path, servers)] == [
        letter["id"] for letter in letters if letter["id"] not in wanted
    ]
    assert await redis.xlen(INPUT) == 0
    again = await dead("drop", wanted[0], folder=tmp_path, environ=servers)
    assert again.code == 1


async def test_an_entry_that_was_no_job_cannot_be_replayed(
    redis: Redis, servers: dict[str, str], tmp_path: Path
) -> None:
    await redis.xadd(DLQ, {"repo": "{", "reason": "bad_entry", "attempts": "0", "detail": "..."})
    ended = await dead("replay", "--all", "--kind", "repo", folder=tmp_path, environ=servers)
    assert (ended.code, "it can only be dropped" in ended.error) == (1, True)
    assert await redis.xlen(DLQ) == 1


async def test_a_record_that_no_table_can_hold_is_kept_and_not_replayed(
    redis: Redis, migrated_url: str, servers: dict[str, str], tmp_path: Path
) -> None:
    """Its version stands as known, so on the stream it would be one more duplicate: gone, and nobody told."""
    await bury_records(migrated_url, "not_storable")
    ended = await dead("replay", "--all", "--kind", "record", folder=tmp_path, environ=servers)
    assert (ended.code, ended.out, ended.error.count("it can only be dropped")) == (1, "1 replayed\n", 1)
    assert len(await listed(tmp_path, servers)) == 1
    assert (await redis.xlen("firehose_live"), await redis.xlen("label_live")) == (0, 1)


@pytest.mark.parametrize("arguments", [["replay"], ["drop", "--all", "--reason", "a"], ["list", "--kind", "label"]])
async def test_what_cannot_be_meant_is_refused(arguments: list[str], servers: dict[str, str], tmp_path: Path) -> None:
    ended = await dead(*arguments, folder=tmp_path, environ=servers)
    assert ended.code == 2
