"""One of everything that counts, what is done to the counts, and what an audit must say of it."""

from indexer.audit import Difference, audit
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, POST, uri
from tests.indexing import Index

BOBS = uri(BOB, POST, "b")
CAROLS_LIKE = make.create(CAROL, "l", make.like(BOBS), 3)
# what was written to be counted, where it counts, and towards what
COLUMNS = {
    "likeCount": ("post_agg", BOBS),
    "repostCount": ("post_agg", BOBS),
    "replyCount": ("post_agg", BOBS),
    "quoteCount": ("post_agg", BOBS),
    "followersCount": ("profile_agg", BOB),
    "followsCount": ("profile_agg", ALICE),
    "postsCount": ("profile_agg", ALICE),
}
KEYS = {"post_agg": "uri", "profile_agg": "did"}


async def one_of_everything(index: Index) -> Index:
    """From Alice, and Bob's post that most of it is about: her posts are two."""
    values = {"l": make.like(BOBS), "r": make.repost(BOBS), "a": make.reply(BOBS), "q": make.quote(BOBS)}
    await index.apply(make.create(BOB, "b", make.post(), 1))
    await index.apply(*(make.create(ALICE, rkey, value, 2) for rkey, value in values.items()))
    await index.apply(make.create(ALICE, "f", make.follow(BOB), 2))
    return index


async def set_count(index: Index, column: str, value: int) -> None:
    table, key = COLUMNS[column]
    await index.pool.execute(f'UPDATE bsky.{table} SET "{column}" = $1 WHERE {KEYS[table]} = $2', value, key)


async def drop_aggregate(index: Index, column: str) -> None:
    table, key = COLUMNS[column]
    await index.pool.execute(f"DELETE FROM bsky.{table} WHERE {KEYS[table]} = $1", key)


def drift(column: str, stored: int | None, counted: int) -> Difference:
    table, key = COLUMNS[column]
    return Difference(table, column, key, stored, counted)


async def check_exact(index: Index) -> None:
    for sample in (None, 100):
        assert (await audit(index.database, sample)).differences == []
