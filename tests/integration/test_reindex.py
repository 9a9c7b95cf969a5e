"""Rows that were damaged are as they were, from the records alone; and nothing else has changed."""

import asyncio
import random
from pathlib import Path

import asyncpg
import pytest

from common.collection_filter import CollectionFilter
from common.events import StreamEvent
from indexer import reindex as reindexing
from indexer.audit import audit
from indexer.reindex import Reindexed, reindex
from tests import factories as make
from tests.commands import sluice
from tests.factories import ALICE, BOB, CAROL, FOLLOW, LIKE, POST, REPOST, uri
from tests.histories import GATE, history
from tests.indexing import Index

ALL = CollectionFilter(("*",))
BOBS = uri(BOB, POST, "b")
DAMAGES = (
    'DELETE FROM bsky."like"',
    "DELETE FROM bsky.follow",
    "DELETE FROM bsky.feed_item",
    "DELETE FROM bsky.notification",
    "DELETE FROM bsky.post_embed_record",
    "DELETE FROM bsky.quote",
    'UPDATE bsky.post SET text = \'damaged\', "invalidReplyRoot" = NULL, "violatesThreadGate" = NULL',
    'UPDATE bsky.post_agg SET "likeCount" = "likeCount" + 7',
    "DELETE FROM bsky.post WHERE uri < 'at://did:plc:c'",
    "DELETE FROM bsky.thread_gate",
)


async def reindexed(index: Index, is_wanted: CollectionFilter = ALL) -> Reindexed:
    done = Reindexed()
    await reindex(index.database, is_wanted, done, lambda: None)
    return done


def events() -> list[StreamEvent]:
    collections, deeds = (POST, LIKE, REPOST, FOLLOW, GATE), ("write",) * 5 + ("delete",)
    return history(random.Random(7).choice, 150, collections, deeds)


@pytest.fixture
async def lived(index: Index) -> Index:
    """A history with posts, replies, quotes, gates, likes that say the same, edits and deletions."""
    await index.apply_each(events())
    await index.apply(make.create(CAROL, "q", make.quote(uri(ALICE, POST, "a")), 500))
    return index


async def test_what_is_whole_stays_as_it_is(lived: Index) -> None:
    before = await lived.everything()
    done = await reindexed(lived)
    assert done.records == len(before["record"])
    assert (done.refused, done.recounted) == (0, 0)
    assert await lived.everything() == before


@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_was_damaged_is_as_it_was(damage: str, lived: Index) -> None:
    before = await lived.everything()
    await lived.pool.execute(damage)
    assert await lived.everything() != before
    await reindexed(lived)
    assert await lived.everything() == before
    assert not (await audit(lived.database, None)).keys_differing


async def test_events_that_come_meanwhile_lose_nothing_by_it(
    index: Index, other_index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five records at a time, over and over, while every event of the history is applied."""
    monkeypatch.setattr(reindexing, "PORTION", 5)
    happened = events()[:90]
    await other_index.apply_each(happened)

    async def apply_all() -> None:
        for event in happened:
            while True:
                try:
                    await index.apply(event)
                    break
                except asyncpg.DeadlockDetectedError:
                    continue  # as the daemon tries again

    live = asyncio.create_task(apply_all())
    rounds = records = 0
    while not live.done():
        records += (await reindexed(index)).records
        rounds += 1
    await live
    assert rounds > 2
    assert records > 10
    assert await index.everything() == await other_index.everything()
    assert not (await audit(index.database, None)).keys_differing


async def test_posts_made_anew_by_themselves_still_say_which_gates_they_have(lived: Index) -> None:
    before = await lived.everything()
    assert {post["hasThreadGate"] for post in before["post"]} >= {True, None}
    await reindexed(lived, CollectionFilter((POST,)))
    assert await lived.everything() == before


async def test_only_the_collections_that_are_named_are_touched(index: Index) -> None:
    await index.apply(make.create(BOB, "b", make.post(), 1))
    await index.apply(make.create(ALICE, "l", make.like(BOBS), 2), make.create(ALICE, "f", make.follow(BOB), 2))
    await index.pool.execute('DELETE FROM bsky."like"')
    await index.pool.execute("DELETE FROM bsky.follow")
    assert (await reindexed(index, CollectionFilter((LIKE,)))).records == 1
    assert (await index.rows("like", "uri"), await index.rows("follow", "uri")) == ([uri(ALICE, LIKE, "l")], [])
    assert await index.count("post_agg", "likeCount", BOBS) == 1
    assert (await reindexed(index, CollectionFilter(("app.bsky.graph.*",)))).records == 1
    assert await index.rows("follow", "uri") == [uri(ALICE, FOLLOW, "f")]


async def test_a_verification_that_stands_is_not_told_to_have_gone(index: Index) -> None:
    value = make.record("app.bsky.graph.verification", subject=BOB, handle="bob.test", displayName="Bob")
    await index.apply(make.create(CAROL, "v", value, 1))
    before = await index.everything()
    await reindexed(index)
    assert await index.everything() == before


async def test_a_person_runs_it_and_goes_on_where_it_was_interrupted(
    index: Index, redis_url: str, tmp_path: Path
) -> None:
    await index.apply(*(make.create(who, "b", make.post(), 1) for who in (ALICE, BOB, CAROL)))
    await index.pool.execute("UPDATE bsky.post SET text = 'damaged'")
    here = {"DATABASE_URL": index.url, "DATA_IS_DISPOSABLE": "true"}
    ended = await sluice("reindex", "--after", uri(ALICE, POST, "b"), folder=tmp_path, environ=here)
    assert (ended.code, ended.out) == (0, "2 records indexed anew, 0 counts set right\n")
    assert await index.rows("post", "text") == ["damaged", "hello", "hello"]
    ended = await sluice("reindex", "--collection", "nonsense", folder=tmp_path, environ=here)
    assert (ended.code, "is no NSID" in ended.error) == (2, True)
