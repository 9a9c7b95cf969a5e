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

_POST, _REPOST, _GATE = "app.bsky.feed.post", "app.bsky.feed.repost", "app.bsky.feed.threadgate"
PORTION = 500


async def settle(session: Session, batch: Batch) -> None:
    posts = _uris(batch, _POST)
    deleted = [uri for uri in posts if isinstance(batch.newest[uri].event, DeleteEvent)]
    reposts = _uris(batch, _REPOST)
    if deleted or reposts:
        await session.execute(_DROP_REPOSTS, reposts, deleted)
    if posts or _uris(batch, _GATE):
        await _settle_posts(session, posts, _uris(batch, _GATE))
    if posts:
        await session.execute(_DROP_QUOTES, posts, deleted)


def _uris(batch: Batch, collection: str) -> list[str]:
    return sorted(uri for uri in batch.newest if collection_of(uri) == collection)


async def _settle_posts(session: Session, posts: Sequence[str], gates: Sequence[str]) -> None:
    new = [row["uri"] for row in await session.fetch("SELECT uri FROM {own}.unsettled WHERE uri = ANY($1)", posts)]
    late = [row["uri"] for row in await session.fetch(_BELOW, posts, TOLD_ANCESTORS)] if posts else []
    late += [row["uri"] for row in await session.fetch(_BELOW_GATES, gates)] if gates else []
    for portion in _portions(list(dict.fromkeys([*sorted(new), *late]))):
        await _settle_portion(session, portion, set(new))
    if new:
        await session.execute("DELETE FROM {own}.unsettled WHERE uri = ANY($1)", new)


async def _settle_portion(session: Session, uris: Sequence[str], new: set[str]) -> None:
    """The posts are locked first, so that two batches that settle the same one do it one after the other."""
    await session.fetch("SELECT uri FROM {app}.post WHERE uri = ANY($1) ORDER BY uri FOR UPDATE", uris)
    posts = await read_posts(session, uris)
    verdicts = await _verdicts(session, posts, new)
    changed = [(uri, *_columns_of(verdict)) for uri, verdict in verdicts.items() if verdict != _stored(posts[uri])]
    deltas = Deltas()
    for uri, verdict in verdicts.items():
        post = posts[uri]
        if post.parent and bool(verdict.violates) != bool(post.violates):
            deltas.by_key["post_agg", post.parent]["replyCount"] += -1 if verdict.violates else 1
    if changed:
        await session.execute(_WRITE_FLAGS, *columns(sorted(changed)))
    await _take_back_replies(session, posts, verdicts)
    await notices.tell(session, [row for uri, post in posts.items() for row in notifications(post, verdicts[uri])])
    await write_counts(session, deltas, ())


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
    """What is new is judged; of what was settled before, a misplaced reply may come right, and a gate may come late."""
    if not is_new:
        invalid = invalid and bool(post.invalid)
        violates = violates or bool(post.violates)
    embedding = True if post.forbids_its_quote() and (is_new or post.violates_embedding) else None
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
            "DELETE FROM {app}.notification WHERE \"recordUri\" = ANY($1) AND reason = 'reply'", silenced
        )


def _portions(uris: Sequence[str]) -> list[Sequence[str]]:
    return [uris[start : start + PORTION] for start in range(0, len(uris), PORTION)]


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
# replies that were there before the post above them; what was settled as told needs the nearest ancestors only
_BELOW = """
WITH RECURSIVE below AS (
  SELECT uri, 1 AS depth FROM {app}.post WHERE "replyParent" = ANY($1)
  UNION ALL
  SELECT post.uri, depth + 1 FROM below JOIN {app}.post ON post."replyParent" = below.uri WHERE depth < $2
)
SELECT uri FROM below GROUP BY uri ORDER BY min(depth), uri
"""
# replies that were written under a gate, and came before it
_BELOW_GATES = """
WITH RECURSIVE gate AS (SELECT "postUri", "indexedAt" AS time FROM {app}.thread_gate WHERE uri = ANY($1)),
below AS (
  SELECT post.uri, gate.time FROM gate JOIN {app}.post ON post."replyParent" = gate."postUri"
  UNION
  SELECT post.uri, below.time FROM below JOIN {app}.post ON post."replyParent" = below.uri
)
SELECT post.uri FROM below JOIN {app}.post ON post.uri = below.uri
WHERE post."indexedAt" >= below.time ORDER BY post.uri
"""
_WRITE_FLAGS = """
UPDATE {app}.post SET "invalidReplyRoot" = new.invalid, "violatesThreadGate" = new.violates,
  "violatesEmbeddingRules" = new.embedding
FROM unnest($1::text[], $2::bool[], $3::bool[], $4::bool[]) AS new(uri, invalid, violates, embedding)
WHERE post.uri = new.uri
"""
