"""The rows that a backfill alone makes do not depend on which repo was fetched first, nor on when."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backfiller.unpack import unpack
from common.collection_filter import CollectionFilter
from common.events import decode_event
from common.syntax import utc_text
from sluice.recording import Recording
from tests.conftest import OpenRecording
from tests.indexing import Index
from tests.rows import Rows

EVERYTHING = CollectionFilter(("*",))
FIRST_FETCH = datetime(2027, 1, 1, tzinfo=UTC)
FETCHED_IN = "2027-01"
BATCH = 300
CLOCKS = {"actor": ["indexedAt"], "sluice.handle_check": ["time"], "sluice.dead_letter": ["payload"]}


async def backfilled(index: Index, recording: Recording, dids: list[str]) -> Rows:
    """Every table, after these repos have been fetched in this order, an hour after one another."""
    for hour, did in enumerate(dids):
        car = recording.car(did)
        assert car is not None
        payloads = unpack(car, did, None, EVERYTHING).payloads(utc_text(FIRST_FETCH + timedelta(hours=hour)))
        events = [decode_event(payload) for payload in payloads]
        for start in range(0, len(events), BATCH):
            await index.apply(*events[start : start + BATCH])
    rows = await index.everything(without=CLOCKS)
    return {table: [_masked(row) for row in found] for table, found in rows.items()}


def _masked(row: dict[str, Any]) -> dict[str, Any]:
    """A record that says nothing of its age, or lies in the future, is as old as its backfill."""
    return {name: "<fetched>" if str(value).startswith(FETCHED_IN) else value for name, value in row.items()}


@pytest.mark.parametrize("name", ["full", "load-tiny"])
async def test_repos_fetched_in_any_order_make_the_same_rows(
    name: str, recording: OpenRecording, index: Index, other_index: Index
) -> None:
    opened = recording(name)
    dids = [repo.did for repo in opened.repos if repo.active]
    rows = await backfilled(index, opened, dids)
    shuffled = random.Random(name).sample(dids, len(dids))
    again = await backfilled(other_index, opened, shuffled)
    for table in rows.keys() | again.keys():
        assert sorted(map(repr, rows[table])) == sorted(map(repr, again[table])), table
