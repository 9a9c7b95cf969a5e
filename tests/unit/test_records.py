"""Record handlers: what each type of record becomes, and what is refused although its lexicon allows it."""

from typing import Any

import orjson
import pytest

from common.errors import BadInput
from indexer.handler import Record
from indexer.lexicon import validator
from indexer.records import HANDLERS, collections_of
from indexer.tables import Row
from tests import factories as make
from tests.factories import ALICE, BOB, POST, Json, cid, uri
from tests.record_examples import CREATED, EXAMPLES, INDEXED_AT, LIST_URI, RKEY
from tests.refusals import refusal


def rows_of(collection: str, value: Json, rkey: str = RKEY, indexed_at: str = INDEXED_AT) -> dict[str, list[Json]]:
    """Table -> its rows, JSON columns as what they say."""
    record = Record(uri(ALICE, collection, rkey), cid(value), ALICE, rkey, value, indexed_at)
    found: dict[str, list[Json]] = {}
    for row in HANDLERS[collection].rows(record):
        found.setdefault(row.table.name, []).append(as_dict(row))
    return found


def as_dict(row: Row) -> Json:
    return {
        column: orjson.loads(value) if value and row.table.types.get(column) == "jsonb" else value
        for column, value in zip(row.table.columns, row.values, strict=True)
    }


def matches(actual: Json, expected: Json) -> bool:
    return {column: actual.get(column) for column in expected} == expected


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_record_becomes_its_rows(name: str) -> None:
    given = EXAMPLES[name]
    validator(given.collection)(given.record)
    actual, expected = rows_of(given.collection, given.record, given.rkey), given.full_rows
    assert actual.keys() == expected.keys()
    for table, rows in expected.items():
        assert len(actual[table]) == len(rows)
        for row, wanted in zip(actual[table], rows, strict=True):
            assert matches(row, wanted), (table, row)


def test_there_is_an_example_of_every_record_type() -> None:
    assert {example.collection for example in EXAMPLES.values()} == collections_of("0.0.275")
    assert len(collections_of("0.0.275")) == 19
    assert collections_of("0.0.280") == collections_of("0.0.275") | {"app.bsky.graph.referencelistoptout"}


def test_there_is_an_example_of_every_table_that_records_fill() -> None:
    filled = {table.name for handler in HANDLERS.values() for table in handler.tables}
    assert filled - {"op_thread_reply", "reference_list_opt_out"} == {
        table for example in EXAMPLES.values() for table in example.rows
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_handler_fills_only_the_tables_that_it_names(name: str) -> None:
    given = EXAMPLES[name]
    named = {table.name for table in HANDLERS[given.collection].tables}
    assert rows_of(given.collection, given.record, given.rkey).keys() <= named


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=lambda handler: handler.collection)
def test_the_columns_of_a_table_are_consistent(handler: Any) -> None:
    for table in handler.tables:
        assert {table.owner, *table.unique, *table.types} <= set(table.columns)
        assert {counter.by for counter in table.counters} <= set(table.columns)


def test_a_reply_in_ones_own_thread_is_noted_as_such() -> None:
    root, parent = uri(ALICE, POST, "root"), uri(BOB, POST, "parent")
    (row,) = rows_of(POST, make.reply(parent, root))["op_thread_reply"]
    assert row == {"rootUri": root, "parentUri": parent, "uri": uri(ALICE, POST, RKEY), "deletedAt": None}
    assert "op_thread_reply" not in rows_of(POST, make.reply(root, parent))


@pytest.mark.parametrize(
    ("created", "sort_at"),
    [
        ("2025-03-01T12:00:59.999Z", "2025-03-01T12:00:59.999Z"),
        ("2025-03-01T12:01:00Z", INDEXED_AT),
        ("2999-01-01T00:00:00Z", INDEXED_AT),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_a_date_in_the_future_gains_nothing(created: str, sort_at: str) -> None:
    found = rows_of(POST, {**make.post(), "createdAt": created})
    assert found["feed_item"][0]["sortAt"] == sort_at


GATE: dict[str, Json] = {"app.bsky.feed.threadgate": {"allow": []}, "app.bsky.feed.postgate": {}}
FOREIGN = {
    "a list item on somebody else's list": (
        "app.bsky.graph.listitem",
        {"subject": BOB, "list": LIST_URI.replace(ALICE, BOB)},
    ),
    "a list item on a list that a handle owns": (
        "app.bsky.graph.listitem",
        {"subject": BOB, "list": LIST_URI.replace(ALICE, "alice.test")},
    ),
    **{f"{kind} for a post of another": (kind, {"post": uri(BOB, POST, RKEY)}) for kind in GATE},
    **{f"{kind} for a post under another key": (kind, {"post": uri(ALICE, POST, "other")}) for kind in GATE},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_nobody_acts_for_somebody_else(name: str) -> None:
    collection, fields = FOREIGN[name]
    value = {"$type": collection, "createdAt": CREATED, **GATE.get(collection, {}), **fields}
    validator(collection)(value)
    assert refusal(rows_of, collection, value) == "foreign_subject"


def test_a_nul_in_a_list_of_texts_cannot_be_stored() -> None:
    assert refusal(rows_of, POST, make.post(tags=["a\x00b"])) == "not_storable"


def test_a_missing_text_is_the_records_fault_and_not_ours() -> None:
    record = Record("at://x", "c", ALICE, RKEY, {"a": {"b": 5}}, INDEXED_AT)
    with pytest.raises(BadInput) as refused:
        record.text("a", "b")
    assert refused.value.reason == "invalid_record"
    assert record.optional_text("a", "b") is None
    assert record.optional_text("a", "b", "c") is None
    assert record.find("a", "b") == 5
