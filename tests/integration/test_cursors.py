"""Cursors beside a backup of Postgres: saved when what they cover is done, set back so that the rest is read again."""

import asyncio
import json
from pathlib import Path

import pytest
from redis.asyncio import Redis

from common.errors import CannotStart
from ingester.gaps import GapLedger
from ingester.switches import reading_key
from sluice.cursors import Refused
from sluice.saved_cursors import KNOWN_REPOS, read, restore, save
from tests.commands import sluice
from tests.waiting import until

FIREHOSE, LABELS, LISTING = "firehose_live:cursor:relay", "label_live:cursor:labeler", "repo_backfill:cursor:relay"


async def test_saving_waits_for_what_the_cursors_cover_and_for_nothing_that_comes_later(own_redis: Redis) -> None:
    redis = own_redis
    await redis.mset({FIREHOSE: "40", LABELS: "7", LISTING: "page", "unrelated": "1"})
    covered = [await redis.xadd("firehose_live", {"event": b"{}"}) for _ in range(3)]
    saving = asyncio.create_task(save(redis))
    await until(lambda: _looked_at(redis, "xrange"))
    await redis.set(FIREHOSE, "41")
    later = await redis.xadd("firehose_live", {"event": b"{}"})
    await redis.xdel("firehose_live", *covered[:2])
    seen = await _looked_at(redis, "xrange")
    await until(lambda: _looked_at(redis, "xrange", since=seen))
    assert not saving.done()
    await redis.xdel("firehose_live", covered[2])
    assert await saving == {FIREHOSE: "40", LABELS: "7"}
    assert [entry for entry, _ in await redis.xrange("firehose_live")] == [later]


async def _looked_at(redis: Redis, command: str, since: int = 0) -> int:
    """How often Redis was asked this, if more often than `since`; else 0."""
    calls = (await redis.info("commandstats")).get(f"cmdstat_{command}", {"calls": 0})["calls"]
    return int(calls) if calls > since else 0


async def test_cursors_are_set_back_and_repos_forgotten_only_on_request(redis: Redis) -> None:
    known = {LISTING: "page", "repo_backfill:outcome:00001": "x", "repo_chain": "x", "repo_chain:1": "x"}
    await redis.mset({FIREHOSE: "90", LABELS: "9", **known})
    [told] = await restore(redis, {FIREHOSE: "40"}, list_again=False)
    assert told == f"{FIREHOSE} was 90 and is 40; set back to a backup from 90 to 40: events come again"
    assert await redis.mget(FIREHOSE, LABELS, *known) == [b"40", b"9", b"page", b"x", b"x", b"x"]
    unchanged, *forgotten = await restore(redis, {FIREHOSE: "40"}, list_again=True)
    assert unchanged == f"{FIREHOSE} is 40 already"
    assert [sentence.split()[2] for sentence in forgotten] == list(KNOWN_REPOS)
    assert await redis.mget(FIREHOSE, LABELS, *known) == [b"40", b"9", None, None, None, None]


async def test_what_is_skipped_or_comes_again_by_a_restore_stands_in_the_ledger(redis: Redis) -> None:
    """Back: nothing is missing. Forward, upon a Redis that is older than the backup: that is a gap."""
    await redis.mset({FIREHOSE: "90", LABELS: "9"})
    await restore(redis, {FIREHOSE: "40", LABELS: "20"}, list_again=False)
    found = {gap.source: (gap.kind, gap.after, gap.before, gap.state) for gap in await GapLedger(redis).all()}
    assert found == {"firehose": ("cursor_set", 90, 40, "closed"), "labeler": ("cursor_set", 9, None, "open")}


async def test_nothing_is_restored_while_an_ingester_reads_any_of_it(redis: Redis) -> None:
    await redis.mset({FIREHOSE: "90", LABELS: "9", reading_key(LABELS): "1", "repo_chain": "x"})
    with pytest.raises(Refused, match="sluice source pause labeler/labeler"):
        await restore(redis, {FIREHOSE: "40", LABELS: "7"}, list_again=True)
    assert await redis.mget(FIREHOSE, LABELS, "repo_chain") == [b"90", b"9", b"x"]
    assert await GapLedger(redis).all() == []


@pytest.mark.parametrize(
    "text", ["", "[]", '{"x": "1"}', '{"firehose_live:cursor:a": 1}', '{"label_live:cursor:a": "x"}']
)
def test_a_file_that_holds_something_else_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cursors.json"
    path.write_text(text)
    with pytest.raises(CannotStart, match="cursors"):
        read(path)


async def test_the_commands_save_and_restore(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    await redis.set(FIREHOSE, "40")
    saved = await sluice("cursor", "save", folder=tmp_path, environ={"REDIS_URL": redis_url})
    assert (saved.code, json.loads(saved.out)) == (0, {FIREHOSE: "40"})
    (tmp_path / "cursors.json").write_text(saved.out)
    await redis.set(FIREHOSE, "90")
    restored = await sluice(
        "cursor", "restore", str(tmp_path / "cursors.json"), folder=tmp_path, environ={"REDIS_URL": redis_url}
    )
    assert (restored.code, restored.error, "was 90 and is 40" in restored.out) == (0, "", True)
    assert await redis.get(FIREHOSE) == b"40"
