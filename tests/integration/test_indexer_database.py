"""Events become rows: each record type, the register of versions, counts, duplicates and snapshots."""

import pytest

from common.events import StreamEvent
from tests import factories as make
from tests.factories import (
    ALICE,
    BOB,
    CAROL,
    DAN,
    FOLLOW,
    LIKE,
    POST,
    Json,
    cid,
    moment,
    rev,
    snapshot,
    uri,
)
from tests.indexing import Index
from tests.record_examples import EXAMPLES, INDEXED_AT, Example

BOBS = uri(BOB, POST, "b")
ONE, TWO = make.post("one"), make.post("two")


# every record type


def with_generated_columns(table: str, row: Json) -> Json:
    """What Postgres adds: the earlier of the two times."""
    name = "sortedAt" if table == "verification" else "sortAt"
    with_sort = {"post", "quote", "like", "repost", "follow", "actor_block", "list", "list_item", "list_block", name}
    with_sort |= {"starter_pack", "verification", "feed_generator", "labeler"}
    return row | {name: min(row["createdAt"], row["indexedAt"])} if table in with_sort else row


@pytest.mark.parametrize("name", EXAMPLES)
async def test_a_record_stands_in_its_tables(name: str, index: Index) -> None:
    given = EXAMPLES[name]
    await index.apply(make.create(ALICE, given.rkey, given.record, 60))
    tables = await index.everything()
    await check_record(tables["record"], given)
    for table, rows in given.full_rows.items():
        wanted = [with_generated_columns(table, row) for row in rows]
        assert len(tables[table]) == len(wanted)
        for row in wanted:
            assert any({column: found.get(column) for column in row} == row for found in tables[table]), (row, table)
    of_records = {"post", "like", "profile", "feed_item", "list", "record", "repost", "follow", "labeler", "quote"}
    assert of_records & tables.keys() == (of_records & given.full_rows.keys()) | {"record"}


async def check_record(rows: list[Json], given: Example) -> None:
    (row,) = rows
    event = make.create(ALICE, given.rkey, given.record, 60)
    assert row["json"] == bytes(event.record).decode()
    assert {name: row[name] for name in ("uri", "cid", "did", "indexedAt", "rev")} == {
        **{"uri": given.uri, "cid": cid(given.record), "did": ALICE, "indexedAt": INDEXED_AT, "rev": rev(60)}
    }


@pytest.mark.parametrize("name", EXAMPLES)
async def test_a_deleted_record_leaves_no_row(name: str, index: Index) -> None:
    given = EXAMPLES[name]
    await index.apply(make.create(ALICE, given.rkey, given.record, 60))
    await index.apply(make.delete(ALICE, given.collection, given.rkey, 61))
    left = (await index.everything()).keys()
    # `unverified` and `starterpack-joined` are notifications that stay, and reply notifications are judged elsewhere
    kept = {"actor", "actor_sync", "post_agg", "profile_agg", "notification"}
    assert {table for table in left if not table.startswith("sluice.")} <= kept
    if given.collection not in ("app.bsky.graph.verification", "app.bsky.actor.profile"):
        assert "notification" not in left
    for row in (await index.everything()).get("post_agg", []) + (await index.everything()).get("profile_agg", []):
        assert not any(value for value in row.values() if isinstance(value, int))


async def test_an_update_replaces_every_row_of_the_older_version(index: Index) -> None:
    old = make.post("old", embed=_images("one", "two"), tags=["a"])
    new = make.post("new", embed=_images("three"))
    await index.apply(make.create(ALICE, "a", old, 1))
    await index.apply(make.update(ALICE, "a", new, 2))
    assert await index.rows("post", "cid", "text", "tags", "indexedAt") == [(cid(new), "new", None, moment(2))]
    assert await index.rows("post_embed_image", "position", "alt") == [("0", "three")]
    assert await index.rows("feed_item", "cid") == [cid(new)]
    assert await index.rows("record", "cid", "rev") == [(cid(new), rev(2))]
    assert await index.count("profile_agg", "postsCount", ALICE) == 1


def _images(*names: str) -> Json:
    images = [{"image": make.blob(name), "alt": name} for name in names]
    return {"$type": "app.bsky.embed.images", "images": images}


async def test_the_newest_commit_of_a_repo_is_noted_and_never_an_older(index: Index) -> None:
    late, early = make.create(ALICE, "a", ONE, 5), make.create(ALICE, "b", TWO, 1)
    await index.apply(late)
    await index.apply(early)
    assert await index.rows("actor_sync", "did", "commitCid", "repoRev") == [(ALICE, late.commit, rev(5))]
    await index.apply(make.sync(ALICE, 9))
    assert await index.rows("actor_sync", "repoRev") == [rev(9)]


async def test_a_collection_that_nobody_reads_moves_the_commit_only(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", {"$type": "com.example.thing"}, 1))
    assert (await index.everything()).keys() == {"actor", "actor_sync", "sluice.handle_check"}


# the register of versions


async def test_a_create_that_is_older_than_the_delete_changes_nothing(index: Index) -> None:
    await index.apply(make.delete(ALICE, POST, "a", 2))
    await index.apply(make.create(ALICE, "a", ONE, 1))
    assert await index.rows("record", "uri") == []


async def test_a_delete_of_an_unknown_key_is_remembered(index: Index) -> None:
    await index.apply(make.delete(ALICE, POST, "a", 2))
    await index.apply(make.delete(ALICE, LIKE, "l", 3))
    everything = await index.everything()
    (stone,), (life,) = everything["sluice.tombstone"], everything["sluice.life"]
    assert (stone["uri"], stone["rev"], stone["did"]) == (uri(ALICE, LIKE, "l"), rev(3), ALICE)
    assert (life["uri"], life["rev"], life["says"]) == (uri(ALICE, POST, "a"), rev(2), None)


async def test_a_record_may_come_back(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    await index.apply(make.delete(ALICE, POST, "a", 2))
    await index.apply(make.create(ALICE, "a", TWO, 3))
    assert await index.rows("record", "cid", "rev") == [(cid(TWO), rev(3))]
    assert "sluice.tombstone" not in await index.everything()
    assert await index.rows("post", "text") == ["two"]


async def test_a_version_of_the_same_rev_changes_nothing(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    before = await index.everything()
    await index.apply(make.create(ALICE, "a", TWO, 1))
    await index.apply(make.delete(ALICE, POST, "a", 1))
    assert await index.everything() == before


async def test_an_older_version_changes_nothing(index: Index) -> None:
    await index.apply(make.update(ALICE, "a", TWO, 5))
    before = await index.everything()
    await index.apply(make.create(ALICE, "a", ONE, 1))
    await index.apply(make.delete(ALICE, POST, "a", 4))
    after = await index.everything()
    lives = [(life["rev"], life["since"], life["until"], life["deleted"]) for life in after.pop("sluice.life")]
    assert lives == [(rev(1), moment(1), moment(4), True), (rev(4), moment(4), "", False)]
    assert after == before


async def test_the_same_version_at_a_higher_rev_raises_its_rev_alone(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    before = await index.everything(without={"record": ["rev"], "actor_sync": ["repoRev", "commitCid"]})
    await index.apply(make.update(ALICE, "a", ONE, 5))
    assert await index.everything(without={"record": ["rev"], "actor_sync": ["repoRev", "commitCid"]}) == before
    assert await index.rows("record", "rev") == [rev(5)]


async def test_a_version_that_breaks_its_lexicon_takes_the_older_one_with_it(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    await index.apply(make.update(ALICE, "a", {"$type": POST, "text": 5}, 2))
    assert await index.rows("record", "uri") == await index.rows("post", "uri") == []
    await index.apply(make.update(ALICE, "a", TWO, 3))
    assert await index.rows("post", "text") == ["two"]


async def test_a_takedown_and_tags_of_the_appview_survive_an_edit(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    await index.pool.execute("""UPDATE bsky.record SET "takedownRef" = 'T', tags = '["x"]'""")
    await index.apply(make.update(ALICE, "a", TWO, 2))
    assert await index.rows("record", "cid", "takedownRef", "tags") == [(cid(TWO), "T", '["x"]')]


async def test_rows_that_the_appview_wrote_have_the_lowest_rev(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", ONE, 1))
    await index.pool.execute("UPDATE bsky.record SET rev = NULL")
    await index.apply(make.update(ALICE, "a", TWO, 2))
    assert await index.rows("record", "cid", "rev") == [(cid(TWO), rev(2))]


def everything_that_happens() -> list[StreamEvent]:
    """A little of all: records that stay, change, go, come back, meet and are refused."""
    return [
        make.identity(ALICE, 0, "alice.test"),
        make.account(ALICE, 0, active=True),
        make.create(ALICE, "self", make.profile("Alice"), 1),
        make.update(ALICE, "self", make.profile("Alice!"), 2),
        make.create(BOB, "b", ONE, 2),
        make.create(ALICE, "a", make.reply(BOBS), 3),
        make.create(ALICE, "q", make.quote(BOBS), 4),
        make.create(ALICE, "l", make.like(BOBS), 5),
        make.create(CAROL, "l", make.like(BOBS), 5),
        make.create(CAROL, "m", make.like(BOBS), 6),
        make.delete(CAROL, LIKE, "l", 7),
        make.create(CAROL, "r", make.repost(BOBS), 8),
        make.create(CAROL, "f", make.follow(ALICE), 9),
        make.create(BOB, "f", make.follow(ALICE), 9),
        make.delete(BOB, FOLLOW, "f", 10),
        make.create(DAN, "x", {"$type": POST, "text": 5}, 11),
        make.create(DAN, "n", make.post("a\x00"), 12),
        make.delete(ALICE, POST, "gone", 13),
        make.create(ALICE, "gone", ONE, 12),
        *snapshot(DAN, {(POST, "s"): ONE, (POST, "x"): None}, 14),
        make.account(DAN, 20, active=False, status="suspended"),
    ]


async def test_a_replay_of_everything_changes_nothing(index: Index) -> None:
    events = everything_that_happens()
    await index.apply_each(events)
    before = await index.everything()
    await index.apply_each(events)
    await index.apply(*events)
    await index.apply_each(events[::-1])
    assert await index.everything() == before
