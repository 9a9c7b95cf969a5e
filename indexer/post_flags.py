"""The flags of a post that say whether gates stand beside it: the AppView reads a gate only where its flag is set.

A gate and its post are of one repo, which the batch has locked, so either may come first.
"""

from collections.abc import Sequence

from indexer.gates import GATE_TABLES
from indexer.plan import Plan
from indexer.session import Session

POST_TABLE = "post"


async def lock_posts(session: Session, wanted: Plan) -> None:
    """The posts that a plan will touch, all at once and in order: a batch that settles locks posts too."""
    touched = {
        uri.replace(".threadgate/", ".post/").replace(".postgate/", ".post/")
        for table, uris in wanted.removed.items()
        if table.name == POST_TABLE or table in GATE_TABLES
        for uri in uris
    }
    touched |= {row["postUri"] for table, rows in wanted.rows.items() if table in GATE_TABLES for row in rows}
    if touched:
        await session.fetch(
            "SELECT uri FROM {app}.post WHERE uri = ANY($1::text[]) ORDER BY uri FOR UPDATE", sorted(touched)
        )


async def show_gates(session: Session, wanted: Plan, gates_gone: Sequence[str]) -> None:
    """`gates_gone`: posts whose gate this batch removed (it may be back, if it was edited)."""
    posts = set(gates_gone)
    for table, rows in wanted.rows.items():
        if table.name == POST_TABLE:
            posts.update(row["uri"] for row in rows)
        elif table in GATE_TABLES:
            posts.update(row["postUri"] for row in rows)
    if posts:
        await session.execute(_SHOW, sorted(posts))


# true: there is a gate; false: there was one, and it was deleted after the post came; unknown (NULL): there is none
_SHOW = """
WITH flagged AS (
  SELECT post.uri,
    CASE WHEN thread_gate.uri IS NOT NULL THEN true WHEN thread_stone.uri IS NOT NULL THEN false END AS thread,
    CASE WHEN post_gate.uri IS NOT NULL THEN true WHEN post_stone.uri IS NOT NULL THEN false END AS post
  FROM {app}.post
  LEFT JOIN {app}.thread_gate ON thread_gate."postUri" = post.uri
  LEFT JOIN {app}.post_gate ON post_gate."postUri" = post.uri
  LEFT JOIN {own}.tombstone AS thread_stone ON thread_stone.time > post."indexedAt"
    AND thread_stone.uri = replace(post.uri, '/app.bsky.feed.post/', '/app.bsky.feed.threadgate/')
  LEFT JOIN {own}.tombstone AS post_stone ON post_stone.time > post."indexedAt"
    AND post_stone.uri = replace(post.uri, '/app.bsky.feed.post/', '/app.bsky.feed.postgate/')
  WHERE post.uri = ANY($1::text[])
)
UPDATE {app}.post SET "hasThreadGate" = flagged.thread, "hasPostGate" = flagged.post
FROM flagged
WHERE post.uri = flagged.uri
  AND (post."hasThreadGate", post."hasPostGate") IS DISTINCT FROM (flagged.thread, flagged.post)
"""
