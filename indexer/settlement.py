"""What a batch means for the rows of other repos, worked out after its commit, from what is committed.

Two batches that run side by side cannot see each other's rows. Whichever commits last sees both here, so nothing falls
between them. A post waits in `unsettled` until this is done, and its entry is acked after that.
"""

from collections.abc import Mapping, Sequence

from common.errors import BadInput
from common.events import DeleteEvent
from indexer import notices
from indexer.batch import Batch
from indexer.counts import Deltas
from indexer.counts import write as write_counts
from indexer.gate_rules import allows_reply
from indexer.late import late_posts, uris_of
from indexer.session import Session, columns
from indexer.thread_context import read_posts, read_relations, root_author
from indexer.threads import Post, Verdict, flags, misplaced, notifications, told_amiss

_POST, _REPOST = "app.bsky.feed.post", "app.bsky.feed.repost"
PORTION = 500


async def settle(session: Session, batch: Batch) -> None:
    posts = uris_of(batch, _POST)
    deleted = [uri for uri in posts if _holds_nothing(batch, uri)]
    reposts = uris_of(batch, _REPOST)
    if deleted or reposts:
        await session.execute(_DROP_REPOSTS, reposts, deleted)
    await _settle_posts(session, posts, await late_posts(session, batch, posts))
    if posts:
        await session.execute(_DROP_QUOTES, posts, deleted)


def _holds_nothing(batch: Batch, uri: str) -> bool:
    """Deleted, or edited into what cannot be indexed."""
    return isinstance(batch.newest[uri].event, DeleteEvent) or isinstance(batch.versions.get(uri), BadInput)


async def _settle_posts(session: Session, posts: Sequence[str], late: Mapping[str, bool]) -> None:
    new = [row["uri"] for row in await session.fetch(_UNSETTLED, posts)] if posts else []
    anew = {*new, *(uri for uri, orphaned in late.items() if orphaned)}
    waiting = list(dict.fromkeys([*sorted(new), *late]))
    while waiting:
        portion, waiting = waiting[:PORTION], waiting[PORTION:]
        righted, wronged = await _settle_portion(session, portion, anew)
        moved = righted | wronged.difference(new)
        if moved:
            below = {row["uri"]: row["parent"] for row in await session.fetch(_CHILDREN, sorted(moved))}
            anew.update(uri for uri, parent in below.items() if parent in wronged)
            waiting += [uri for uri in below if uri not in waiting and uri not in moved]
    if new:
        await session.execute("DELETE FROM {own}.unsettled WHERE uri = ANY($1::text[])", new)


async def _settle_portion(session: Session, uris: Sequence[str], anew: set[str]) -> tuple[set[str], set[str]]:
    """The answer: replies that are not misplaced any more, and those that are now, as those below them have to know.

    The posts are locked first, so that two batches that settle the same one do it one after the other.
    """
    await session.fetch("SELECT uri FROM {app}.post WHERE uri = ANY($1::text[]) ORDER BY uri FOR UPDATE", uris)
    posts = await read_posts(session, uris)
    verdicts = await _verdicts(session, posts, anew)
    changed = [(uri, *_columns_of(verdict)) for uri, verdict in verdicts.items() if verdict != _stored(posts[uri])]
    if changed:
        await session.execute(_WRITE_FLAGS, *columns(sorted(changed)))
    await _take_back(session, posts, verdicts, anew)
    await notices.tell(session, [row for uri, post in posts.items() for row in notifications(post, verdicts[uri])])
    await write_counts(session, _reply_counts(posts, verdicts), ())
    righted = {uri for uri, post in posts.items() if post.invalid and not verdicts[uri].invalid}
    wronged = {uri for uri, post in posts.items() if verdicts[uri].invalid and not post.invalid}
    return righted, wronged


def _reply_counts(posts: Mapping[str, Post], verdicts: Mapping[str, Verdict]) -> Deltas:
    """A reply that its gate forbids does not count."""
    deltas = Deltas()
    for uri, post in posts.items():
        if post.parent and bool(verdicts[uri].violates) != bool(post.violates):
            deltas.by_key["post_agg", post.parent]["replyCount"] += -1 if verdicts[uri].violates else 1
    return deltas


async def _verdicts(session: Session, posts: Mapping[str, Post], anew: set[str]) -> dict[str, Verdict]:
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
        uri: _verdict(post, _is_misplaced(post, posts, anew, invalid), uri in forbidden, uri in anew)
        for uri, post in posts.items()
    }


def _is_misplaced(post: Post, posts: Mapping[str, Post], anew: set[str], known: dict[str, bool]) -> bool:
    """A parent that is settled in the same portion is judged first; a circle of parents counts as misplaced.

    What was settled before may come right, but does not go wrong because its parent went.
    """
    if not post.parent:
        return False
    if post.uri not in known:
        known[post.uri] = True
        parent = posts.get(post.parent)
        parent_invalid = _is_misplaced(parent, posts, anew, known) if parent else post.parent_invalid
        known[post.uri] = misplaced(post, parent_invalid) and (post.uri in anew or bool(post.invalid))
    return known[post.uri]


def _verdict(post: Post, invalid: bool, violates: bool, is_judged_anew: bool) -> Verdict:
    """What was settled before is judged again where the gate that it was under is still known."""
    embedding = True if post.forbids_its_quote() else None
    if not is_judged_anew:
        violates = violates if post.gate_in_force() else bool(post.violates)
        embedding = embedding if post.quoted_gate_in_force() else post.violates_embedding
    return Verdict(*flags(invalid, violates), embedding)


def _stored(post: Post) -> Verdict:
    return Verdict(post.invalid, post.violates, post.violates_embedding)


def _columns_of(verdict: Verdict) -> tuple[bool | None, bool | None, bool | None]:
    return (verdict.invalid, verdict.violates, verdict.violates_embedding)


async def _take_back(
    session: Session, posts: Mapping[str, Post], verdicts: Mapping[str, Verdict], anew: set[str]
) -> None:
    """What posts should not have told: a gate that came late forbids it, a post above was gone already."""
    amiss = sorted(
        (uri, person) for uri, post in posts.items() for person in told_amiss(post, verdicts[uri], anew=uri in anew)
    )
    for uri, person in amiss:
        del posts[uri].told[person]
    if amiss:
        await session.execute(_TAKE_BACK, *columns(amiss))


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
_TAKE_BACK = """
DELETE FROM {app}.notification USING unnest($1::text[], $2::text[]) AS amiss(uri, person)
WHERE "recordUri" = amiss.uri AND did = amiss.person
"""
_UNSETTLED = "SELECT uri FROM {own}.unsettled WHERE uri = ANY($1::text[])"
_CHILDREN = 'SELECT uri, "replyParent" AS parent FROM {app}.post WHERE "replyParent" = ANY($1::text[]) ORDER BY uri'
_TAKE_BACK = """
DELETE FROM {app}.notification USING unnest($1::text[], $2::text[]) AS amiss(uri, person)
WHERE "recordUri" = amiss.uri AND did = amiss.person
"""
_WRITE_FLAGS = """
UPDATE {app}.post SET "invalidReplyRoot" = new.invalid, "violatesThreadGate" = new.violates,
  "violatesEmbeddingRules" = new.embedding
FROM unnest($1::text[], $2::bool[], $3::bool[], $4::bool[]) AS new(uri, invalid, violates, embedding)
WHERE post.uri = new.uri
"""
