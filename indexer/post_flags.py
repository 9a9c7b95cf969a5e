"""The flags of a post that say whether gates stand beside it: the AppView reads a gate only where its flag is set.

Either may come first: with a post we look for its gates, and once gates have come or gone we look at their posts.
"""

from collections.abc import Iterable

from indexer.lives import POST, POST_GATE, THREAD_GATE
from indexer.session import Session


async def lock_posts(session: Session, posts: Iterable[str]) -> set[str]:
    """So that of two batches that settle, edit or remove the same post one comes after the other.

    The answer: those that are ours now. One that was removed while we waited for it is not, though it may be back.
    """
    if not (uris := sorted(posts)):
        return set()
    locked = await session.fetch("SELECT uri FROM {app}.post WHERE uri = ANY($1::text[]) ORDER BY uri FOR UPDATE", uris)
    return {row["uri"] for row in locked}


async def show_gates(session: Session, posts: Iterable[str]) -> None:
    """Those that are there already must be locked."""
    if uris := sorted(posts):
        await session.execute(_SHOW, uris)


def post_beside(gate: str) -> str:
    return gate.replace(f"/{THREAD_GATE}/", f"/{POST}/").replace(f"/{POST_GATE}/", f"/{POST}/")


# true: there is a gate; false: there was one, and it was deleted after the post came; unknown (NULL): there is none
_SHOW = """
WITH flagged AS (
  SELECT post.uri, CASE WHEN thread_gate.uri IS NOT NULL THEN true WHEN EXISTS (
      SELECT 1 FROM {own}.life WHERE deleted AND until > post."indexedAt"
        AND life.uri = replace(post.uri, '/app.bsky.feed.post/', '/app.bsky.feed.threadgate/')
    ) THEN false END AS thread,
    CASE WHEN post_gate.uri IS NOT NULL THEN true WHEN EXISTS (
      SELECT 1 FROM {own}.life WHERE deleted AND until > post."indexedAt"
        AND life.uri = replace(post.uri, '/app.bsky.feed.post/', '/app.bsky.feed.postgate/')
    ) THEN false END AS post
  FROM {app}.post
  LEFT JOIN {app}.thread_gate ON thread_gate."postUri" = post.uri
  LEFT JOIN {app}.post_gate ON post_gate."postUri" = post.uri
  WHERE post.uri = ANY($1::text[])
)
UPDATE {app}.post SET "hasThreadGate" = flagged.thread, "hasPostGate" = flagged.post
FROM flagged
WHERE post.uri = flagged.uri
  AND (post."hasThreadGate", post."hasPostGate") IS DISTINCT FROM (flagged.thread, flagged.post)
"""
