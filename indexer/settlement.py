"""What a batch means for the rows of other repos, worked out after its commit, from what is committed.

Two batches that run side by side cannot see each other's rows. Whichever commits last sees both here, so nothing falls
between them. A post waits in `unplaced` until this is done, and its entry is acked after that; a reply that hangs on
nothing of its thread stays there.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple

from common.syntax import collection_of
from indexer import notices
from indexer.batch import Batch
from indexer.counts import Deltas
from indexer.counts import write as write_counts
from indexer.gate_rules import allows_reply
from indexer.late import gone_with_snapshots, late_posts, uris_of
from indexer.lives import GATES, POST
from indexer.lost import lose, restore, wrongly_lost
from indexer.post_flags import lock_posts, post_beside, show_gates
from indexer.session import Session, columns
from indexer.tables import Row
from indexer.thread_context import read_posts, read_relations, root_author
from indexer.threads import Post, Verdict, corrections, flags, placed

REPOST = "app.bsky.feed.repost"
PORTION = 500


class MorePosts(Exception):
    """Others turned out to be concerned: posts are locked once, so it begins again with all that may be, nearest first.

    With those next below alone it would begin anew for each level of a thread, which may be as deep as somebody likes.
    None are told of where a post was replaced while we waited for it: what is there now must be locked first.
    """

    def __init__(self, uris: Sequence[str]) -> None:
        super().__init__(f"{len(uris)} more posts")
        self.uris = uris


async def settle(session: Session, batch: Batch, found: Collection[str] = ()) -> None:
    """`found`: posts that turned out to be concerned before, nearest first. Raises MorePosts."""
    gone = await gone_with_snapshots(session, batch)
    posts = sorted({*uris_of(batch, POST), *(uri for uri in gone if collection_of(uri) == POST)})
    lost = await wrongly_lost(session, posts)
    new = {row["uri"] for row in await session.fetch(_UNPLACED, posts)} if posts else set()
    concerned = list(dict.fromkeys([*sorted(new), *await late_posts(session, batch, gone), *found]))
    gated = {post_beside(gate) for collection in GATES for gate in uris_of(batch, collection)}
    locked = await lock_posts(session, {*concerned, *gated})
    await show_gates(session, gated)
    await restore(session, lost)
    await lose(session, posts, uris_of(batch, REPOST))
    await notices.hush(session, posts)
    await _settle_posts(session, concerned, locked, new)


async def _settle_posts(session: Session, uris: Sequence[str], locked: set[str], new: set[str]) -> None:
    deltas, waiting, still = Deltas(), deque(uris), set(uris)
    while waiting:
        portion = [waiting.popleft() for _ in range(min(PORTION, len(waiting)))]
        still.difference_update(portion)
        posts = await read_posts(session, portion)
        if not posts.keys() <= locked:
            raise MorePosts(())
        if moved := await _settle_portion(session, posts, deltas, new):
            below = {row["uri"] for row in await session.fetch(_BELOW, moved)}
            if not below <= locked:
                raise MorePosts(await _all_below(session, moved))
            again = sorted(below - still - set(portion))
            waiting.extend(again)
            still.update(again)
    await write_counts(session, deltas)


async def _all_below(session: Session, posts: Sequence[str]) -> list[str]:
    """Nearest first, so that those that stand below others are settled after them."""
    below: dict[str, list[str]] = defaultdict(list)
    for row in await session.fetch(_ALL_BELOW, posts):
        below[row["above"]].append(row["uri"])
    found = dict.fromkeys(posts)
    waiting = deque(posts)
    while waiting:
        new = [uri for uri in below[waiting.popleft()] if uri not in found]
        found |= dict.fromkeys(new)
        waiting.extend(new)
    return list(found)


async def _settle_portion(session: Session, posts: Mapping[str, Post], deltas: Deltas, new: set[str]) -> list[str]:
    """The answer: those that are misplaced now and were not, or the other way round: whoever is below has to know."""
    verdicts = await _verdicts(session, posts)
    changed = [(uri, *astuple(verdict)) for uri, verdict in verdicts.items() if verdict != posts[uri].stored]
    if changed:
        await session.execute(_WRITE_FLAGS, *columns(sorted(changed)))
        await _note_forbidden(session, posts, verdicts)
    await _note_places(session, posts, verdicts, new)
    await _tell(session, posts, verdicts)
    _count_replies(deltas, posts, verdicts)
    return sorted(uri for uri, post in posts.items() if bool(post.stored.invalid) != bool(verdicts[uri].invalid))


async def _note_forbidden(session: Session, posts: Mapping[str, Post], verdicts: Mapping[str, Verdict]) -> None:
    before = {uri for uri, post in posts.items() if post.stored.violates}
    now = {uri for uri, verdict in verdicts.items() if verdict.violates}
    if now - before:
        await session.execute(_FORBID, sorted(now - before))
    if before - now:
        await session.execute(_ALLOW, sorted(before - now))


async def _note_places(
    session: Session, posts: Mapping[str, Post], verdicts: Mapping[str, Verdict], new: set[str]
) -> None:
    """`new` are noted as without a place already."""
    before = {uri for uri, post in posts.items() if uri in new or post.stored.invalid}
    now = {uri for uri, verdict in verdicts.items() if verdict.invalid}
    if now - before:
        await session.execute(_UNPLACE, *columns([(uri, posts[uri].root) for uri in sorted(now - before)]))
    if before - now:
        await session.execute(_PLACE, sorted(before - now))


def _count_replies(deltas: Deltas, posts: Mapping[str, Post], verdicts: Mapping[str, Verdict]) -> None:
    """A reply that its gate forbids does not count."""
    for uri, post in posts.items():
        if post.parent and bool(verdicts[uri].violates) != bool(post.stored.violates):
            deltas.by_key["post_agg", post.parent]["replyCount"] += -1 if verdicts[uri].violates else 1


async def _verdicts(session: Session, posts: Mapping[str, Post]) -> dict[str, Verdict]:
    gated = [post for post in posts.values() if post.root and post.gate and root_author(post) != post.creator]
    relations = await read_relations(session, gated)
    forbidden = {
        post.uri for post in gated if not allows_reply(post.gate, post.root_value, post.creator, relations[post.uri])
    }
    in_place = placed(posts)
    return {
        uri: Verdict(*flags(uri not in in_place, uri in forbidden), True if post.forbids_its_quote() else None)
        for uri, post in posts.items()
    }


async def _tell(session: Session, posts: Mapping[str, Post], verdicts: Mapping[str, Verdict]) -> None:
    missing: list[Row] = []
    amiss: list[tuple[str, str]] = []
    for uri, post in posts.items():
        rows, people = corrections(post, verdicts[uri])
        missing += rows
        amiss += [(uri, person) for person in people]
    if amiss:
        await session.execute(_TAKE_BACK, *columns(sorted(amiss)))
    await notices.tell(session, missing)


_TAKE_BACK = """
DELETE FROM {app}.notification USING unnest($1::text[], $2::text[]) AS amiss(uri, person)
WHERE "recordUri" = amiss.uri AND did = amiss.person
"""
_UNPLACED = "SELECT uri FROM {own}.unplaced WHERE uri = ANY($1::text[])"
# also through posts that are gone
_BELOW = """
WITH RECURSIVE chain AS (
  SELECT unnest($1::text[]) AS uri
  UNION
  SELECT life.uri COLLATE "default" FROM chain JOIN {own}.life ON life.parent = chain.uri
)
SELECT DISTINCT post.uri FROM chain JOIN {app}.post ON "replyParent" = chain.uri ORDER BY post.uri
"""
_UNPLACE = "INSERT INTO {own}.unplaced SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING"
_PLACE = "DELETE FROM {own}.unplaced WHERE uri = ANY($1::text[])"
_FORBID = "INSERT INTO {own}.forbidden SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"
_ALLOW = "DELETE FROM {own}.forbidden WHERE uri = ANY($1::text[])"
_ALL_BELOW = """
WITH RECURSIVE tree AS (
  SELECT unnest($1::text[]) AS uri, NULL AS above
  UNION
  SELECT next.uri, tree.uri FROM tree JOIN LATERAL (
    SELECT post.uri FROM {app}.post WHERE "replyParent" = tree.uri
    UNION ALL
    SELECT life.uri COLLATE "default" FROM {own}.life WHERE parent = tree.uri
  ) AS next ON true
)
SELECT uri, above FROM tree WHERE above IS NOT NULL ORDER BY uri
"""
_WRITE_FLAGS = """
UPDATE {app}.post SET "invalidReplyRoot" = new.invalid, "violatesThreadGate" = new.violates,
  "violatesEmbeddingRules" = new.embedding
FROM unnest($1::text[], $2::bool[], $3::bool[], $4::bool[]) AS new(uri, invalid, violates, embedding)
WHERE post.uri = new.uri
"""
