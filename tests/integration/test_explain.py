"""`sluice explain`: what it tells of an account, of a record, of what is gone and of what nobody knows."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from common.events import RepoJob, encode_event
from tests.commands import Ended, sluice
from tests.factories import ALICE, BOB, POST, create, delete, label, labels, like, post, rev, uri
from tests.indexing import Index

Explain = Callable[..., Awaitable[Ended]]
HELLO = uri(ALICE, POST, "hello")


@pytest.fixture
def explain(index: Index, redis_url: str, tmp_path: Path) -> Explain:
    async def run(what: str, *more: str, **environ: str) -> Ended:
        settings = {"DATABASE_URL": index.url, "REDIS_URL": redis_url, **environ}
        return await sluice("explain", what, *more, folder=tmp_path, environ=settings)

    return run


async def told(explain: Explain, what: str) -> dict[str, Any]:
    ended = await explain(what, "--json")
    assert (ended.code, ended.error) == (0, "")
    return ended.result


async def test_an_account_has_its_records_by_type_and_what_is_still_to_be_done(index: Index, explain: Explain) -> None:
    await index.apply(create(ALICE, "hello", post(), 1), create(ALICE, "l", like(HELLO, 2), 2))
    await index.apply(create(ALICE, "gone", post("x", 3), 3), delete(ALICE, POST, "gone", 4))
    await index.apply_labels(labels(label(ALICE, "spam", 5)))
    story = await told(explain, ALICE)
    assert [(row["collection"], row["records"], row["newest_rev"]) for row in story["records"]] == [
        ("app.bsky.feed.like", 1, rev(2)), (POST, 1, rev(1)),
    ]  # fmt: skip
    assert story["account"][0]["did"] == ALICE
    assert [row["what"] for row in story["waits for"]] == ["its handle"]
    gone = [(row["collection"], row["records"]) for row in story["deleted records remembered"]]
    assert gone == [(POST, 1)]
    assert [row["val"] for row in story["labels"]] == ["spam"]
    assert "jobs given up" not in story


async def test_what_goes_into_a_pipe_is_not_folded(index: Index, explain: Explain) -> None:
    await index.apply(create(ALICE, "hello", post(), 1), create(BOB, "l", like(HELLO, 2), 2))
    lines = [line.rstrip() for line in (await explain(uri(BOB, "app.bsky.feed.like", "l"))).out.splitlines()]
    stored = await index.pool.fetchrow('SELECT cid, "indexedAt" FROM bsky.record WHERE uri LIKE $1', f"at://{BOB}/%")
    assert [line for line in lines if all(value in line for value in stored)]
    assert "notifications" in lines


async def test_a_handle_finds_its_account(index: Index, explain: Explain) -> None:
    await index.apply(create(ALICE, "hello", post(), 1))
    await index.pool.execute("UPDATE bsky.actor SET handle = 'alice.test'")
    assert (await told(explain, "@Alice.test"))["did"] == ALICE
    assert (await told(explain, f"at://alice.test/{POST}/hello"))["uri"] == HELLO


async def test_a_record_has_its_rev_its_rows_and_what_it_did(index: Index, explain: Explain) -> None:
    await index.apply(create(ALICE, "hello", post(), 1), create(BOB, "l", like(HELLO, 2), 2))
    story = await told(explain, HELLO)
    assert story["record"][0]["rev"] == rev(1)
    assert {row["table"]: row["rows"] for row in story["rows"]} == {"post": 1, "feed_item": 1}
    assert story["counts"][0]["likeCount"] == 1
    like_story = await told(explain, uri(BOB, "app.bsky.feed.like", "l"))
    assert like_story["notifications"] == [{"reason": "like", "sent": 1}]


async def test_a_deleted_record_says_when(index: Index, explain: Explain) -> None:
    await index.apply(create(ALICE, "hello", post(), 1))
    await index.apply(delete(ALICE, POST, "hello", 9))
    story = await told(explain, HELLO)
    assert "record" not in story
    lives = story["versions that are gone"]
    assert [(life["rev"], life["deleted"]) for life in lives] == [(rev(1), True), (rev(9), False)]


async def test_dead_letters_and_jobs_are_told_with_their_reasons(index: Index, redis: Redis, explain: Explain) -> None:
    await index.pool.execute(
        "INSERT INTO sluice_bsky.dead_letter (stream, entry_id, did, uri, reason, payload, error)"
        " VALUES ('firehose_live', '1-0', $1, $2, 'not_storable', 'x', 'a NUL')",
        ALICE,
        HELLO,
    )
    job = encode_event(RepoJob(did=ALICE, attempts=2))
    await redis.zadd("repo_backfill:parked", {job: 1, encode_event(RepoJob(did=BOB)): 2})
    await redis.zadd("repo_backfill_high:parked", {encode_event(RepoJob(did=ALICE, attempts=4)): 1})
    for who in (ALICE, BOB):
        await redis.xadd("repo_backfill_dlq", {"repo": encode_event(RepoJob(did=who)), "error": "pds_gone"})
    story = await told(explain, ALICE)
    assert [(row["reason"], row["error"]) for row in story["dead letters"]] == [("not_storable", "a NUL")]
    assert [row["attempts"] for row in story["jobs that wait for their next try"]] == [4, 2]
    assert [row["error"] for row in story["jobs given up"]] == ["pds_gone"]
    assert [row["error"] for row in (await told(explain, HELLO))["dead letters"]] == ["a NUL"]
    ended = await explain(ALICE)
    assert (ended.code, "not_storable" in ended.out, "pds_gone" in ended.out) == (0, True, True)


async def test_what_nobody_knows_is_said_to_be_unknown(explain: Explain) -> None:
    ended = await explain(ALICE)
    assert ended.code == 1
    assert "nothing is known of it" in ended.out


async def test_what_cannot_be_asked_is_a_clear_refusal(explain: Explain) -> None:
    ended = await explain("nobody.test")
    assert (ended.code, "'nobody.test' is neither a DID" in ended.error) == (2, True)
    ended = await explain(ALICE, DATABASE_SCHEMA="none")
    assert (ended.code, "is DATABASE_SCHEMA right" in ended.error) == (2, True)
    ended = await explain(ALICE, DATABASE_URL="postgres://127.0.0.1:1/x")
    assert (ended.code, "check DATABASE_URL" in ended.error) == (2, True)


async def test_without_redis_the_rest_is_still_told(index: Index, explain: Explain) -> None:
    await index.apply(create(ALICE, "hello", post(), 1))
    ended = await explain(ALICE, REDIS_URL="redis://127.0.0.1:1")
    assert (ended.code, "redis does not answer" in ended.out, "records" in ended.out) == (0, True, True)
