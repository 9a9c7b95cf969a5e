"""Plans: what a batch changes, given what is known of its keys."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from common.events import CreateEvent, DeleteEvent, StreamEvent
from indexer.batch import collect
from indexer.dating import Live
from indexer.last_writer import plan
from indexer.plan import Known, Plan, remove
from tests import factories as make
from tests.factories import ALICE, BOB, LIKE, POST, items, rev, uri

URI, BOBS = uri(ALICE, POST, "a"), uri(BOB, POST, "b")
ONE, TWO = make.post("one"), make.post("two")
NOTHING = Known({}, {}, {})


def planned(*events: StreamEvent, known: Known = NOTHING) -> Plan:
    return plan(collect(items(events)), known)


def live(at: float, value: make.Json = ONE) -> Known:
    return Known({URI: Live(rev(at), make.cid(value), make.moment(at))}, {}, {})


def dead(at: float) -> Known:
    return Known({}, {URI: rev(at)}, {})


def floor(at: float) -> Known:
    return Known({}, {}, {ALICE: rev(at)})


def changes(result: Plan) -> dict[str, Any]:
    """What the plan would change, in short."""
    return {
        "records": [(row.uri, row.rev) for row in result.records],
        "rewritten": [(row.uri, row.rev) for row in result.rewritten],
        "tables": sorted(table.name for table in result.rows),
        "removed": {uri for uris in result.removed.values() for uri in uris},
        "deleted": result.deleted,
        "lifted": result.lifted,
        "tombstones": [(stone.uri, stone.rev) for stone in result.tombstones],
        "ending": result.ending,
        "lives": [(life.uri, life.rev, life.says is not None) for life in result.lives],
        "revived": result.revived,
    }


NOTHING_CHANGED = ("records", "rewritten", "tables", "deleted", "lifted", "tombstones", "revived", "ending", "lives")


def changed(**parts: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {name: [] for name in NOTHING_CHANGED}
    return empty | {"removed": set()} | parts


POST_TABLES = ["feed_item", "post"]


def test_a_new_record_is_written_with_its_rows() -> None:
    result = planned(make.create(ALICE, "a", ONE, 1))
    assert changes(result) == changed(records=[(URI, rev(1))], tables=POST_TABLES)
    (row,) = result.records
    assert (row.cid, row.did, row.indexed_at) == (make.cid(ONE), ALICE, make.moment(1))
    assert row.json == bytes(make.create(ALICE, "a", ONE, 1).record).decode()


def test_an_update_of_what_was_never_seen_is_a_create() -> None:
    assert changes(planned(make.update(ALICE, "a", ONE, 1))) == changes(planned(make.create(ALICE, "a", ONE, 1)))


def test_a_newer_version_replaces_the_rows_of_the_older() -> None:
    for event in (make.update(ALICE, "a", TWO, 2), make.create(ALICE, "a", TWO, 2)):
        result = planned(event, known=live(1))
        written = changed(rewritten=[(URI, rev(2))], tables=POST_TABLES, removed={URI}, ending=[URI])
        assert changes(result) == written
        assert result.outcomes == {"written": 1}


@pytest.mark.parametrize("known", [live(5, TWO), live(1, TWO), dead(5), dead(1)])
def test_what_is_not_above_the_register_is_stale(known: Known) -> None:
    for event in (make.create(ALICE, "a", ONE, 1), make.update(ALICE, "a", ONE, 1), make.delete(ALICE, POST, "a", 1)):
        result = planned(event, known=known)
        is_new = known != live(1, TWO)
        says = not isinstance(event, DeleteEvent)
        assert changes(result) == changed(lives=[(URI, rev(1), says)] if is_new else [])
        assert result.outcomes == {"stale": 1}


def test_a_version_that_is_known_by_a_newer_rev_has_not_passed() -> None:
    for known in (live(5), live(1)):
        assert changes(planned(make.create(ALICE, "a", ONE, 1), known=known)) == changed()


def test_what_a_snapshot_has_overtaken_is_only_remembered() -> None:
    for event, ends in ((make.create(ALICE, "a", ONE, 1), True), (make.delete(ALICE, POST, "a", 1), False)):
        result = planned(event, known=floor(5))
        assert changes(result) == changed(lives=[(URI, rev(1), ends), *[(URI, rev(5), False) for _ in range(ends)]])
        assert [life.since for life in result.lives] == [make.moment(1), make.moment(5)][: 1 + ends]
        assert result.outcomes == {"stale": 1}
    assert changes(planned(make.create(ALICE, "l", make.like(BOBS), 1), known=floor(5))) == changed()


def test_the_same_version_at_a_higher_rev_only_rises() -> None:
    result = planned(make.create(ALICE, "a", ONE, 5), known=live(1))
    assert changes(result) == changed(lifted=[(URI, rev(5))])
    assert result.outcomes == {"lifted": 1}


def test_a_delete_takes_the_rows_and_is_remembered() -> None:
    result = planned(make.delete(ALICE, POST, "a", 2), known=live(1))
    assert changes(result) == changed(removed={URI}, deleted=[URI], ending=[URI], lives=[(URI, rev(2), False)])
    assert result.outcomes == {"deleted": 1}


def test_a_delete_of_an_unknown_key_is_remembered_too() -> None:
    for known in (NOTHING, dead(1)):
        result = planned(make.delete(ALICE, POST, "a", 2), known=known)
        assert changes(result) == changed(lives=[(URI, rev(2), False)])


def test_of_what_nobody_is_judged_by_a_tombstone_is_left() -> None:
    result = planned(make.delete(ALICE, LIKE, "a", 2), known=NOTHING)
    assert changes(result) == changed(tombstones=[(make.uri(ALICE, LIKE, "a"), rev(2))])


def test_a_record_that_comes_back_loses_its_tombstone() -> None:
    result = planned(make.create(ALICE, "a", ONE, 3), known=dead(2))
    assert changes(result) == changed(records=[(URI, rev(3))], tables=POST_TABLES, revived=[URI])


def test_events_of_one_batch_meet_in_the_newest() -> None:
    result = planned(make.create(ALICE, "a", ONE, 1), make.delete(ALICE, POST, "a", 2), make.create(ALICE, "a", TWO, 3))
    lives = [(URI, rev(1), True), (URI, rev(2), False)]
    assert changes(result) == changed(records=[(URI, rev(3))], tables=POST_TABLES, lives=lives)
    assert result.outcomes == {"written": 1, "superseded": 2}


def test_a_repo_is_not_held_to_the_floor_of_another() -> None:
    assert planned(make.create(BOB, "b", ONE, 1), known=floor(5)).outcomes == {"written": 1}


UNREADABLE = {
    "an invalid record": ({"$type": POST, "text": 5}, "invalid_record"),
    "a foreign gate": (
        {"$type": "app.bsky.feed.threadgate", "post": BOBS, "createdAt": make.moment(0), "allow": []},
        "foreign_subject",
    ),
    "a NUL in a text": (make.post("a\x00b"), "not_storable"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_version_that_cannot_be_indexed_lifts_its_key_and_holds_nothing(name: str) -> None:
    value, reason = UNREADABLE[name]
    event = make.create(ALICE, "a", value, 2)
    for known, expected in (
        (NOTHING, changed(lives=[(event.uri, rev(2), False)])),
        (
            Known({event.uri: Live(rev(1), "old")}, {}, {}),
            changed(lives=[(event.uri, rev(2), False)], deleted=[event.uri], removed={event.uri}, ending=[event.uri]),
        ),
    ):
        result = planned(event, known=known)
        assert changes(result) == expected
        assert result.outcomes == {reason: 1}
        assert [item.event for item, _ in result.poison] == ([event] if reason == "not_storable" else [])


def test_a_nul_in_a_text_that_has_no_column_does_no_harm() -> None:
    value = make.post(extra="a\x00b")
    result = planned(make.create(ALICE, "a", value, 1))
    assert result.outcomes == {"written": 1}
    assert "\\u0000" in result.records[0].json


def test_a_record_that_nests_deeper_than_json_can_be_written_is_invalid() -> None:
    facets = [{"index": {"byteStart": 0, "byteEnd": 1}, "features": [{"$type": "com.example.deep", "x": "deep"}]}]
    for value in (
        make.record("app.bsky.feed.generator", did=BOB, displayName="x", descriptionFacets=facets),
        make.record("app.bsky.feed.threadgate", post=URI, x="deep"),
    ):
        event = make.create(ALICE, "a", value, 1)
        for depth, outcome in ((200, "written"), (300, "invalid_record"), (5000, "invalid_record")):
            text = bytes(event.record).replace(b'"deep"', b'{"a":' * depth + b"1" + b"}" * depth)
            nested = msgspec.structs.replace(event, record=Raw(text))
            later = make.delete(ALICE, event.collection, "a", 2)
            assert planned(nested).outcomes == {outcome: 1}
            assert planned(nested, later).outcomes == {"superseded": 1, "deleted": 1}


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        *((f"{sign}9007199254740991", "written") for sign in ("", "-")),
        *((str(number), "invalid_record") for number in (2**53, -(2**53), 2**63, -(2**63) - 1, 2**64, -(10**30))),
        *((number, "written") for number in ("1.5", "1e30", "-1e30")),
        ("1e999", "invalid_record"),
    ],
)
def test_an_integer_of_any_size_is_taken_for_one(number: str, outcome: str) -> None:
    event = make.create(ALICE, "a", make.post(x=1), 1)
    text = bytes(event.record).replace(b'"x":1', b'"x":' + number.encode())
    result = planned(msgspec.structs.replace(event, record=Raw(text)))
    assert result.outcomes == {outcome: 1}
    assert [row.json for row in result.records] == ([text.decode()] if outcome == "written" else [])


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[1]", b'"text"', b"null", b"5"])
def test_a_record_that_is_no_object_is_invalid(text: bytes) -> None:
    event = make.create(ALICE, "a", ONE, 1)
    broken = CreateEvent(
        **{name: getattr(event, name) for name in event.__struct_fields__} | {"record": make.Raw(text)}
    )
    assert planned(broken).outcomes == {"invalid_record": 1}


def test_collections_that_nobody_reads_leave_no_trace() -> None:
    value = {"$type": "com.example.thing"}
    result = planned(make.create(ALICE, "a", value, 1), make.delete(ALICE, "com.example.thing", "b", 1))
    assert changes(result) == changed()
    assert result.outcomes == {"unknown_collection": 2}


def touched(result: Plan) -> set[tuple[str, str, str]]:
    return {(counter.table, counter.column, key) for counter, key in result.touched}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (make.like(BOBS), {("post_agg", "likeCount", BOBS)}),
        (make.repost(BOBS), {("post_agg", "repostCount", BOBS)}),
        (make.follow(BOB), {("profile_agg", "followersCount", BOB), ("profile_agg", "followsCount", ALICE)}),
        (make.reply(BOBS), {("post_agg", "replyCount", BOBS), ("profile_agg", "postsCount", ALICE)}),
        (make.quote(BOBS), {("post_agg", "quoteCount", BOBS), ("profile_agg", "postsCount", ALICE)}),
        (make.profile("x"), set()),
    ],
)
def test_what_was_there_and_went_leaves_the_aggregates_that_it_counted_towards(
    value: make.Json, expected: set[tuple[str, str, str]]
) -> None:
    event = make.create(ALICE, "a", value, 1)
    assert touched(planned(event, make.delete(ALICE, value["$type"], "a", 2))) == expected
    assert touched(planned(event, known=Known({}, {event.uri: rev(2)}, {}))) == expected
    assert touched(planned(event)) == set()


def test_what_went_with_its_account_leaves_no_ghosts() -> None:
    value, gone = make.reply(URI), Known({}, {}, {ALICE: rev(5)}, frozenset({ALICE}))
    for at, known, ghosts in ((1, floor(5), 1), (1, gone, 0), (6, gone, 1)):
        wrote, deleted = make.create(ALICE, "r", value, at), make.delete(ALICE, POST, "r", at + 1)
        result = planned(wrote, deleted, known=known)
        assert len(result.ghosts) == ghosts
        assert touched(result) == {("post_agg", "replyCount", URI), ("profile_agg", "postsCount", ALICE)}
    assert not planned(make.create(ALICE, "r", value, 1), known=gone).ghosts


def test_an_account_that_is_back_leaves_its_lives_as_others_do() -> None:
    known = Known({}, {}, {ALICE: rev(2)}, frozenset([ALICE]))
    events = [make.create(ALICE, "a", ONE, at) for at in (1, 3)]
    result = planned(*events, make.delete(ALICE, POST, "a", 4), known=known)
    assert changes(result) == changed(lives=[(URI, rev(4), False), (URI, rev(3), True)])


def test_an_account_that_goes_takes_all_its_records() -> None:
    result = Plan()
    remove(result, [uri(ALICE, LIKE, "b"), URI, uri(ALICE, "com.example.thing", "c")])
    assert result.deleted == sorted([uri(ALICE, LIKE, "b"), URI, uri(ALICE, "com.example.thing", "c")])
    assert {table.name: uris for table, uris in result.removed.items()}["like"] == [uri(ALICE, LIKE, "b")]
    assert all(uris == [URI] for table, uris in result.removed.items() if table.name.startswith("post"))


def histories() -> st.SearchStrategy[list[StreamEvent]]:
    """Any events of a few keys."""
    keys, times = st.sampled_from(["a", "b"]), st.integers(1, 4)
    values = st.sampled_from([ONE, TWO, {"$type": POST, "text": 5}, make.post("\x00"), {"$type": "com.example.thing"}])
    writes = st.builds(lambda rkey, value, at: make.create(ALICE, rkey, value, at), keys, values, times)
    deletes = st.builds(lambda rkey, at: make.delete(ALICE, POST, rkey, at), keys, times)
    return st.lists(st.one_of(writes, deletes), max_size=8)


@given(histories(), st.sampled_from([NOTHING, live(2), live(2, TWO), dead(2), floor(2)]))
def test_every_record_event_has_one_outcome(events: list[StreamEvent], known: Known) -> None:
    result = planned(*events, known=known)
    assert sum(result.outcomes.values()) == len(events)


@given(histories())
def test_no_key_is_both_written_and_buried(events: Iterable[StreamEvent]) -> None:
    result = planned(*events)
    written, buried = {row.uri for row in result.records}, {stone.uri for stone in result.tombstones}
    assert not written & buried
    assert len(written) == len(result.records)
    assert len(buried) == len(result.tombstones)
