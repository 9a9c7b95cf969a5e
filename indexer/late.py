"""Which posts a batch puts in another light, though they were settled before."""

from collections.abc import Sequence

from common.syntax import collection_of
from indexer.batch import Batch
from indexer.session import Session
from indexer.threads import TOLD_ANCESTORS


async def late_posts(session: Session, batch: Batch, posts: Sequence[str]) -> dict[str, bool]:
    """Posts that were settled before something that they depend on came, though it was there when they were written.

    True for those below a post that was not there any more, as has come to light. `posts`: the posts of the batch.
    """
    causes = [posts, *(uris_of(batch, collection) for collection in _CAUSES)]
    if not any(causes):
        return {}
    return {row["uri"]: row["orphaned"] for row in await session.fetch(_LATE, *causes, TOLD_ANCESTORS)}


def uris_of(batch: Batch, collection: str) -> list[str]:
    return sorted(uri for uri in batch.newest if collection_of(uri) == collection)


_CAUSES = (
    "app.bsky.feed.threadgate",
    "app.bsky.feed.postgate",
    "app.bsky.graph.follow",
    "app.bsky.graph.listitem",
)
# An index serves only one collation: all URIs here have that of the posts. Found are
# replies that were there before a post above them (as far as those are told), nearest first, be it to come or to go;
# replies in a thread from before its gate; quotes from before the gate of the post; replies between two people, written
# after one of them began to follow the other; replies of somebody on a list, written after they were put there
_LATE = """
WITH RECURSIVE below AS (
  SELECT next.uri, next.time, 1 AS depth, stone.time AS gone
  FROM unnest($1::text[]) AS above(uri) LEFT JOIN {own}.tombstone AS stone ON stone.uri = above.uri
  JOIN LATERAL (
    SELECT post.uri, post."indexedAt" AS time FROM {app}.post WHERE "replyParent" = above.uri
    UNION ALL
    SELECT tombstone.uri COLLATE "default", NULL FROM {own}.tombstone WHERE parent = above.uri
  ) AS next ON true
  UNION ALL
  SELECT next.uri, next.time, depth + 1, gone
  FROM below JOIN LATERAL (
    SELECT post.uri, post."indexedAt" AS time FROM {app}.post WHERE "replyParent" = below.uri
    UNION ALL
    SELECT tombstone.uri COLLATE "default", NULL FROM {own}.tombstone WHERE parent = below.uri
  ) AS next ON true
  WHERE depth < $6
),
gated AS (
  SELECT post.uri, thread_gate."indexedAt" AS since FROM {app}.thread_gate
  JOIN {app}.post ON post."replyParent" = thread_gate."postUri" WHERE thread_gate.uri = ANY($2::text[])
  UNION
  SELECT post.uri, gated.since FROM gated JOIN {app}.post ON post."replyParent" = gated.uri
),
found AS (
  SELECT uri, depth, gone <= time AS orphaned FROM below WHERE time IS NOT NULL
  UNION ALL
  SELECT post.uri, 0, false FROM gated JOIN {app}.post ON post.uri = gated.uri WHERE post."indexedAt" >= gated.since
  UNION ALL
  SELECT quote.uri, 0, false FROM {app}.post_gate JOIN {app}.quote
    ON quote.subject = post_gate."postUri" AND quote."indexedAt" >= post_gate."indexedAt"
  WHERE post_gate.uri = ANY($3::text[])
  UNION ALL
  SELECT post.uri, 0, false FROM {app}.follow JOIN {app}.post
    ON post.creator IN (follow.creator, follow."subjectDid") AND post."sortAt" >= follow."indexedAt"
  WHERE follow.uri = ANY($4::text[]) AND starts_with(
    post."replyRoot", 'at://' || CASE post.creator WHEN follow.creator THEN "subjectDid" ELSE follow.creator END || '/'
  )
  UNION ALL
  SELECT post.uri, 0, false FROM {app}.list_item JOIN {app}.post
    ON post.creator = list_item."subjectDid" AND post."sortAt" >= list_item."indexedAt"
  WHERE list_item.uri = ANY($5::text[]) AND post."replyRoot" IS NOT NULL
)
SELECT uri, coalesce(bool_or(orphaned), false) AS orphaned FROM found GROUP BY uri ORDER BY min(depth), uri
"""
