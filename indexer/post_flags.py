"""The flags of a post that say whether gates stand beside it: the AppView reads a gate only where its flag is set.

A gate and its post are of one repo, which the batch has locked, so either may come first.
"""

from indexer.gates import GATE_TABLES
from indexer.plan import Plan
from indexer.session import Session

POST_TABLE = "post"


async def lock_posts(session: Session, wanted: Plan) -> None:
    """The posts that a plan will touch, all at once and in order: a batch that settles locks posts too."""
    touched = {
        _post_of(uri)
        for table, uris in wanted.removed.items()
        if table.name == POST_TABLE or table in GATE_TABLES
        for uri in uris
    }
    touched |= {row["postUri"] for table, rows in wanted.rows.items() if table in GATE_TABLES for row in rows}
    if touched:
        await session.fetch(
            "SELECT uri FROM {app}.post WHERE uri = ANY($1::text[]) ORDER BY uri FOR UPDATE", sorted(touched)
        )


async def show_gates(session: Session, wanted: Plan) -> None:
    posts = {_post_of(life.uri) for life in wanted.lives} | {_post_of(uri) for uri in wanted.ending}
    for table, rows in wanted.rows.items():
        if table.name == POST_TABLE:
            posts.update(row["uri"] for row in rows)
        elif table in GATE_TABLES:
            posts.update(row["postUri"] for row in rows)
    if posts:
        await session.execute(_SHOW, sorted(posts))


def _post_of(gate: str) -> str:
    return gate.replace(".threadgate/", ".post/").replace(".postgate/", ".post/")


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
