"""Quotes and reposts go with the post that they are about: those that were there when it went, whenever we hear of it.

Which they are is noted, for the post may turn out to have gone before they came, and then their rows are back.
"""

from collections import defaultdict
from collections.abc import Sequence

from common.syntax import collection_of
from indexer.embeds import QUOTE
from indexer.feed_items import FEED_ITEM
from indexer.handler import stored_record
from indexer.records import HANDLERS
from indexer.session import Session, columns
from indexer.tables import Row, Table

Lost = tuple[str, str]  # the post that is gone, and the quote or repost that went with it
_SUBJECT = {QUOTE: "subject", FEED_ITEM: "postUri"}


async def wrongly_lost(session: Session, posts: Sequence[str]) -> list[Lost]:
    """What went with one of these posts and came after its end, as we know now. Its repos are locked."""
    lost = [(row["subject"], row["uri"]) for row in await session.fetch(_WRONGLY_LOST, posts)] if posts else []
    if lost:
        await session.fetch(_LOCK, [uri for _, uri in lost])
    return lost


async def lose(session: Session, posts: Sequence[str], reposts: Sequence[str]) -> None:
    """The rows of quotes and reposts that were there when their subject went.

    `posts` and `reposts` are those of a batch: what they are about may be gone, or posts may be gone themselves.
    """
    gone = await session.fetch(_DELETED, posts) if posts else ()
    deleted = sorted({row["uri"] for row in gone})
    if deleted or reposts:
        await session.execute(_LOSE_REPOSTS, reposts, deleted)
    if posts:
        await session.execute(_LOSE_QUOTES, posts, deleted)


async def restore(session: Session, lost: Sequence[Lost]) -> None:
    """What `wrongly_lost` has found, as far as it is there still, and still about that post."""
    rows: dict[Table, list[Row]] = defaultdict(list)
    for found in await session.fetch(_TAKE, *columns(lost)) if lost else ():
        record = stored_record(found)
        for row in HANDLERS[collection_of(record.uri)].rows(record):
            if row.table in _SUBJECT and row[_SUBJECT[row.table]] == found["subject"]:
                rows[row.table].append(row)
    await session.insert(rows)


_DELETED = "SELECT DISTINCT uri FROM {own}.life WHERE deleted AND uri = ANY($1::text[])"
# the lives are held, so that whoever finds out that they ended earlier comes before us, or finds what we note
_LOSE = """
WITH candidate AS ({candidates}),
ended AS (
  SELECT candidate.uri, candidate.subject FROM candidate JOIN {{app}}.record ON record.uri = candidate.uri
  JOIN {{own}}.life ON life.uri = candidate.subject AND deleted AND record."indexedAt" < until FOR SHARE OF life
),
gone AS (
  DELETE FROM {{app}}.{table} AS row USING ended WHERE row.uri = ended.uri RETURNING ended.subject, row.uri
)
INSERT INTO {{own}}.lost SELECT subject, uri FROM gone ON CONFLICT DO NOTHING
"""
_LOSE_REPOSTS = _LOSE.format(
    table="feed_item",
    candidates="""
  SELECT uri, "postUri" AS subject FROM {app}.feed_item WHERE uri = ANY($1::text[])
  UNION
  SELECT uri, "postUri" FROM {app}.feed_item WHERE "postUri" = ANY($2::text[]) AND type = 'repost'
""",
)
_LOSE_QUOTES = _LOSE.format(
    table="quote",
    candidates="""
  SELECT uri, subject FROM {app}.quote WHERE uri = ANY($1::text[])
  UNION
  SELECT uri, subject FROM {app}.quote WHERE subject = ANY($2::text[])
""",
)
_CAME_LATER = """record.uri = lost.uri COLLATE "default" AND NOT EXISTS (
  SELECT 1 FROM {own}.life WHERE life.uri = lost.subject AND deleted AND record."indexedAt" < until
)"""
_WRONGLY_LOST = f"""
SELECT subject, lost.uri FROM {{own}}.lost JOIN {{app}}.record ON {_CAME_LATER}
WHERE subject = ANY($1::text[]) ORDER BY subject, lost.uri
"""
# as a batch locks them
_LOCK = """
SELECT 1 FROM {app}.actor_sync WHERE did = ANY(SELECT split_part(uri, '/', 3) FROM unnest($1::text[]) AS lost(uri))
ORDER BY did COLLATE "C" FOR UPDATE
"""
_TAKE = f"""
DELETE FROM {{own}}.lost USING unnest($1::text[], $2::text[]) AS found(subject, uri), {{app}}.record
WHERE lost.subject = found.subject AND lost.uri = found.uri AND {_CAME_LATER}
RETURNING lost.subject, record.uri, record.cid, record.json, record."indexedAt"
"""
