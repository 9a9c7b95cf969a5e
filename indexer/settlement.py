"""What a batch means for the rows of other repos, worked out after its commit, from what is committed.

Two batches that run side by side cannot see each other's rows. Whichever commits last sees both here, so nothing
falls between them; and a batch that is delivered again settles again.
"""

from common.events import DeleteEvent
from common.syntax import collection_of
from indexer.batch import Batch
from indexer.session import Session

_POST = "app.bsky.feed.post"
_REPOST = "app.bsky.feed.repost"


async def settle(session: Session, batch: Batch) -> None:
    """A deleted post takes the reposts in feeds and the quotes with it that were there before it went."""
    reposts = sorted(uri for uri in batch.newest if collection_of(uri) == _REPOST)
    posts = sorted(uri for uri in batch.newest if collection_of(uri) == _POST)
    deleted = [uri for uri in posts if isinstance(batch.newest[uri].event, DeleteEvent)]
    if deleted or reposts:
        await session.execute(_DROP_REPOSTS, reposts, deleted)
    if posts:
        await session.execute(_DROP_QUOTES, posts, deleted)


_DROP_REPOSTS = """
WITH candidate AS (
  SELECT uri, "postUri" FROM {app}.feed_item WHERE uri = ANY($1)
  UNION
  SELECT uri, "postUri" FROM {app}.feed_item WHERE "postUri" = ANY($2) AND type = 'repost'
)
DELETE FROM {app}.feed_item USING candidate, {app}.record, {own}.tombstone
WHERE feed_item.uri = candidate.uri AND record.uri = candidate.uri
  AND tombstone.uri = candidate."postUri" AND record."indexedAt" < tombstone.time
"""
_DROP_QUOTES = """
WITH candidate AS (
  SELECT uri, subject FROM {app}.quote WHERE uri = ANY($1)
  UNION
  SELECT uri, subject FROM {app}.quote WHERE subject = ANY($2)
)
DELETE FROM {app}.quote USING candidate, {own}.tombstone
WHERE quote.uri = candidate.uri AND tombstone.uri = candidate.subject AND quote."indexedAt" < tombstone.time
"""
