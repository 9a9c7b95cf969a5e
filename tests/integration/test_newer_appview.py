"""What AppView 0.0.280 has beyond the oldest that we write for: people who opt out of a reference list."""

import asyncpg
import pytest

from common.errors import CannotStart
from indexer.app import open_pool
from indexer.database import Database
from indexer.settings import Settings
from indexer.work import EventWork
from tests import factories as make
from tests.factories import ALICE, BOB, Json, uri
from tests.indexing import Index

OPT_OUT = "app.bsky.graph.referencelistoptout"
LIST = uri(BOB, "app.bsky.graph.list", "l")
# as the AppView's own migration makes it
TABLE = """
CREATE TABLE bsky.reference_list_opt_out (
  uri varchar PRIMARY KEY, cid varchar NOT NULL, creator varchar NOT NULL, "subjectUri" varchar NOT NULL,
  "createdAt" varchar NOT NULL, "indexedAt" varchar NOT NULL,
  "sortAt" varchar GENERATED ALWAYS AS (least("createdAt", "indexedAt")) STORED NOT NULL,
  CONSTRAINT reference_list_opt_out_unique_subject UNIQUE (creator, "subjectUri")
)
"""


class NewerIndex(Index):
    def __init__(self, pool: asyncpg.Pool, url: str) -> None:
        super().__init__(pool, url)
        self._events = EventWork(Database(pool, "bsky", "0.0.280"))


@pytest.fixture
async def newer(pool: asyncpg.Pool, migrated_url: str) -> NewerIndex:
    await pool.execute(TABLE)
    return NewerIndex(pool, migrated_url)


def opt_out(subject: str) -> Json:
    return make.record(OPT_OUT, subject=subject)


async def opted_out(index: Index) -> list[tuple[str, str]]:
    return [tuple(row) for row in await index.rows("reference_list_opt_out", "uri", "subjectUri")]


async def test_of_several_opt_outs_from_one_list_one_counts(newer: NewerIndex) -> None:
    first, second = (make.create(ALICE, rkey, opt_out(LIST), number) for number, rkey in enumerate("ab"))
    await newer.apply(second)
    await newer.apply(first)
    assert await opted_out(newer) == [(first.uri, LIST)]
    await newer.apply(make.delete(ALICE, OPT_OUT, "a", 5))
    assert await opted_out(newer) == [(second.uri, LIST)]


@pytest.mark.parametrize("subject", ["at://bob.test/app.bsky.graph.list/l", uri(BOB, "app.bsky.feed.post", "l")])
async def test_of_what_is_no_list_named_by_its_did_only_the_record_stays(subject: str, newer: NewerIndex) -> None:
    await newer.apply(make.create(ALICE, "a", opt_out(subject), 1))
    assert await opted_out(newer) == []
    assert len(await newer.rows("record", "uri")) == 1


async def test_an_older_appview_knows_nothing_of_them(index: Index) -> None:
    await index.apply(make.create(ALICE, "a", opt_out(LIST), 1))
    assert await index.rows("record", "uri") == []


async def test_the_newer_appview_must_have_migrated_first(pool: asyncpg.Pool, migrated_url: str) -> None:
    settings = Settings(database_url=migrated_url, data_is_disposable=True, appview="0.0.280")
    with pytest.raises(CannotStart, match=r"reference_list_opt_out is missing: let @atproto/bsky 0\.0\.280 migrate"):
        await open_pool(settings)
    await pool.execute(TABLE)
    await (await open_pool(settings)).close()
    with pytest.raises(CannotStart, match=r"DATABASE_APPVIEW: '0\.0\.1' is none of 0\.0\.275, 0\.0\.280"):
        await open_pool(Settings(database_url=migrated_url, data_is_disposable=True, appview="0.0.1"))
