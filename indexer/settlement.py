"""What a batch means for the rows of other repos, worked out after its commit, from what is committed.

Two batches that run side by side cannot see each other's rows. Whichever commits last sees both here, so nothing falls
between them. A post waits in `unsettled` until this is done, and its entry is acked after that.
"""

from collections.abc import Mapping, Sequence

from common.events import DeleteEvent
from common.syntax import collection_of
from indexer import notices
from indexer.batch import Batch
from indexer.counts import Deltas
from indexer.counts import write as write_counts
from indexer.gate_rules import allows_reply
from indexer.session import Session, columns
from indexer.thread_context import read_posts, read_relations, root_author
from indexer.threads import TOLD_ANCESTORS, Post, Verdict, flags, misplaced, notifications

_POST, _REPOST = "app.bsky.feed.post", "app.bsky.feed.repost"
PORTION = 500


async def settle(session: Session, batch: Batch) -> None:
    posts = _uris(batch, _POST)
    deleted = [uri for uri in posts if isinstance(batch.newest[uri].event, DeleteEvent)]
    reposts = _uris(batch, _REPOST)
    if deleted or reposts:
        await session.execute(_DROP_REPOSTS, reposts, deleted)
    await _settle_posts(session, posts, await _late(session, batch, posts))
    if posts:
        await session.execute(_DROP_QUOTES, posts, deleted)


def _uris(batch: Batch, collection: str) -> list[str]:
    return sorted(uri for uri in batch.newest if collection_of(uri) == collection)


async def _late(session: Session, batch: Batch, posts: Sequence[str]) -> list[str]:
    """Posts that were settled before something that they depend on came, though it was there when they were written."""
    causes = [posts, *(_uris(batch, collection) for collection in _LATE_CAUSES)]
    if not any(causes):
        return []
    return [row["uri"] for row in await session.fetch(_LATE, *causes, TOLD_ANCESTORS)]


async def _settle_posts(session: Session, posts: Sequence[str], late: Sequence[str]) -> None:
    new = [row["uri"] for row in await session.fetch(_UNSETTLED, posts)] if posts else []
    waiting = list(dict.fromkeys([*sorted(new), *late]))
    while waiting:
        portion, waiting = waiting[:PORTION], waiting[PORTION:]
        if righted := await _settle_portion(session, portion, set(new)):
            below = [row["uri"] for row in await session.fetch(_CHILDREN, righted)]
            waiting += [uri for uri in below if uri not in waiting and uri not in righted]
    if new:
        await session.execute("DELETE FROM {own}.unsettled WHERE uri = ANY($1::text[])", new)


async def _settle_portion(session: Session, uris: Sequence[str], new: set[str]) -> list[str]:
    """The answer: replies that were misplaced and are not any more, so that those below may come right too.

    The posts are locked first, so that two batches that settle the same one do it one after the other.
    """
    await session.fetch("SELECT uri FROM {app}.post WHERE uri = ANY($1::text[]) ORDER BY uri FOR UPDATE", uris)
    posts = await read_posts(session, uris)
    verdicts = await _verdicts(session, posts, new)
    changed = [(uri, *_columns_of(verdict)) for uri, verdict in verdicts.items() if verdict != _stored(posts[uri])]
    if changed:
        await session.execute(_WRITE_FLAGS, *columns(sorted(changed)))
    await _take_back_replies(session, posts, verdicts)
    await notices.tell(session, [row for uri, post in posts.items() for row in notifications(post, verdicts[uri])])
    await write_counts(session, _reply_counts(posts, verdicts), ())
    return sorted(uri for uri, post in posts.items() if post.invalid and not verdicts[uri].invalid)


def _reply_counts(posts: Mapping[str, Post], verdicts: Mapping[str, Verdict]) -> Deltas:
    """A reply that its gate forbids does not count."""
    deltas = Deltas()
    for uri, post in posts.items():
        if post.parent and bool(verdicts[uri].violates) != bool(post.violates):
            deltas.by_key["post_agg", post.parent]["replyCount"] += -1 if verdicts[uri].violates else 1
    return deltas


async def _verdicts(session: Session, posts: Mapping[str, Post], new: set[str]) -> dict[str, Verdict]:
    gated = [
        post for post in posts.values() if post.root and post.gate_in_force() and root_author(post) != post.creator
    ]
    relations = await read_relations(session, gated)
    forbidden = {
        post.uri
        for post in gated
        if not allows_reply(post.gate_in_force() or {}, post.root_value, post.creator, relations[post.uri])
    }
    invalid: dict[str, bool] = {}
    return {
        uri: _verdict(post, _is_misplaced(post, posts, invalid), uri in forbidden, uri in new)
        for uri, post in posts.items()
    }


def _is_misplaced(post: Post, posts: Mapping[str, Post], known: dict[str, bool]) -> bool:
    """A parent that is settled in the same portion is judged first; a circle of parents counts as misplaced."""
    if not post.parent:
        return False
    if post.uri not in known:
        known[post.uri] = True
        parent = posts.get(post.parent)
        parent_invalid = _is_misplaced(parent, posts, known) if parent else post.parent_invalid
        known[post.uri] = misplaced(post, parent_invalid)
    return known[post.uri]


def _verdict(post: Post, invalid: bool, violates: bool, is_new: bool) -> Verdict:
    """What is new is judged. What was settled before is judged again where the gate that it was under is still known;
    and a misplaced reply may come right, but none goes wrong because its parent went."""
    embedding = True if post.forbids_its_quote() else None
    if not is_new:
        invalid = invalid and bool(post.invalid)
        violates = violates if post.gate_in_force() else bool(post.violates)
        embedding = embedding if post.quoted_gate_in_force() else post.violates_embedding
    return Verdict(*flags(invalid, violates), embedding)


def _stored(post: Post) -> Verdict:
    return Verdict(post.invalid, post.violates, post.violates_embedding)


def _columns_of(verdict: Verdict) -> tuple[bool | None, bool | None, bool | None]:
    return (verdict.invalid, verdict.violates, verdict.violates_embedding)


async def _take_back_replies(session: Session, posts: Mapping[str, Post], verdicts: Mapping[str, Verdict]) -> None:
    """A gate that came late takes back what the replies that it forbids have told."""
    silenced = sorted(uri for uri, post in posts.items() if verdicts[uri].violates and not post.violates and post.told)
    if silenced:
        await session.execute(
            "DELETE FROM {app}.notification WHERE \"recordUri\" = ANY($1::text[]) AND reason = 'reply'", silenced
        )


_DROP_REPOSTS = """
WITH candidate AS (
  SELECT uri, "postUri" FROM {app}.feed_item WHERE uri = ANY($1::text[])
  UNION
  SELECT uri, "postUri" FROM {app}.feed_item WHERE "postUri" = ANY($2::text[]) AND type = 'repost'
)
DELETE FROM {app}.feed_item USING candidate, {app}.record, {own}.tombstone
WHERE feed_item.uri = candidate.uri AND record.uri = candidate.uri
  AND tombstone.uri = candidate."postUri" AND record."indexedAt" < tombstone.time
"""
_DROP_QUOTES = """
WITH candidate AS (
  SELECT uri, subject FROM {app}.quote WHERE uri = ANY($1::text[])
  UNION
  SELECT uri, subject FROM {app}.quote WHERE subject = ANY($2::text[])
)
DELETE FROM {app}.quote USING candidate, {own}.tombstone
WHERE quote.uri = candidate.uri AND tombstone.uri = candidate.subject AND quote."indexedAt" < tombstone.time
"""
_UNSETTLED = "SELECT uri FROM {own}.unsettled WHERE uri = ANY($1::text[])"
_CHILDREN = 'SELECT uri FROM {app}.post WHERE "replyParent" = ANY($1::text[]) ORDER BY uri'
_LATE_CAUSES = (
    "app.bsky.feed.threadgate",
    "app.bsky.feed.postgate",
    "app.bsky.graph.follow",
    "app.bsky.graph.listitem",
)
# replies that were there before a post above them (as far as those are told), nearest first; replies in a thread from
# before its gate; quotes from before the gate of the post; replies between two people, written after one of them began
# to follow the other; replies of somebody on a list, written after they were put there
_LATE = """
WITH RECURSIVE below AS (
  SELECT uri, 1 AS depth FROM {app}.post WHERE "replyParent" = ANY($1::text[])
  UNION ALL
  SELECT post.uri, depth + 1 FROM below JOIN {app}.post ON post."replyParent" = below.uri WHERE depth < $6
),
gated AS (
  SELECT post.uri, thread_gate."indexedAt" AS since FROM {app}.thread_gate
  JOIN {app}.post ON post."replyParent" = thread_gate."postUri" WHERE thread_gate.uri = ANY($2::text[])
  UNION
  SELECT post.uri, gated.since FROM gated JOIN {app}.post ON post."replyParent" = gated.uri
),
found AS (
  SELECT uri, depth FROM below
  UNION ALL
  SELECT post.uri, 0 FROM gated JOIN {app}.post ON post.uri = gated.uri WHERE post."indexedAt" >= gated.since
  UNION ALL
  SELECT quote.uri, 0 FROM {app}.post_gate JOIN {app}.quote
    ON quote.subject = post_gate."postUri" AND quote."sortAt" >= post_gate."indexedAt"
  WHERE post_gate.uri = ANY($3::text[])
  UNION ALL
  SELECT post.uri, 0 FROM {app}.follow JOIN {app}.post
    ON post.creator IN (follow.creator, follow."subjectDid") AND post."sortAt" >= follow."indexedAt"
  WHERE follow.uri = ANY($4::text[]) AND starts_with(
    post."replyRoot", 'at://' || CASE post.creator WHEN follow.creator THEN "subjectDid" ELSE follow.creator END || '/'
  )
  UNION ALL
  SELECT post.uri, 0 FROM {app}.list_item JOIN {app}.post
    ON post.creator = list_item."subjectDid" AND post."sortAt" >= list_item."indexedAt"
  WHERE list_item.uri = ANY($5::text[]) AND post."replyRoot" IS NOT NULL
)
SELECT uri FROM found GROUP BY uri ORDER BY min(depth), uri
"""
_WRITE_FLAGS = """
UPDATE {app}.post SET "invalidReplyRoot" = new.invalid, "violatesThreadGate" = new.violates,
  "violatesEmbeddingRules" = new.embedding
FROM unnest($1::text[], $2::bool[], $3::bool[], $4::bool[]) AS new(uri, invalid, violates, embedding)
WHERE post.uri = new.uri
"""
