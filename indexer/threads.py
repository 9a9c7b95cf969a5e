"""Where a post stands among others: is its place in the thread valid, do gates forbid it, who is to be told.

A post is judged by what stood when it was written, and what of that came later, but never by what went later. So the
answer follows from what has happened, however late we hear of it: what comes to light settles again what it changes.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from common.syntax import authority_of
from indexer.gate_rules import forbids_quotes, mentions
from indexer.notifications import NOTIFICATION
from indexer.tables import Row

TOLD_ANCESTORS = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """The three flags of a post: true, false and unknown, as the AppView writes them."""

    invalid: bool | None
    violates: bool | None
    violates_embedding: bool | None


@dataclass(slots=True)
class Post:
    """A post and what its place depends on, as it was when it was written. `ancestors`: those above it, nearest first.

    `gate` and `quoted_gate` are what its thread's gate said, and that of the post that it quotes. `in_place`: something
    above it that is gone by now stood in its thread. `above`: what it hangs on of what is there now, and in its thread;
    the value says whether that is misplaced itself. `told`: who has heard of it, why, and about what.
    """

    uri: str
    cid: str
    creator: str
    time: str
    sort_at: str
    root: str | None
    parent: str | None
    stored: Verdict
    value: dict[str, Any]
    gate: dict[str, Any]
    root_value: dict[str, Any] | None
    quoted: str | None
    quoted_gate: dict[str, Any] = field(default_factory=dict)
    in_place: bool = False
    above: dict[str, bool] = field(default_factory=dict)
    ancestors: list[str] = field(default_factory=list)
    told: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def forbids_its_quote(self) -> bool:
        """Whether who is quoted had forbidden it; one's own posts may always be quoted."""
        return authority_of(self.quoted or "") != self.creator and forbids_quotes(self.quoted_gate)


def placed(posts: Mapping[str, Post]) -> set[str]:
    """Those that stand where they say: below a post of the same thread that does so itself. Circles stand nowhere."""
    found: set[str] = set()
    waiting = sorted(posts.values(), key=lambda post: post.time)
    while standing := [post for post in waiting if _stands(post, posts, found)]:
        found.update(post.uri for post in standing)
        waiting = [post for post in waiting if post.uri not in found]
    return found


def _stands(post: Post, judged: Container[str], found: Container[str]) -> bool:
    if post.parent is None or post.in_place:
        return True
    return any(uri in found if uri in judged else not misplaced for uri, misplaced in post.above.items())


def flags(invalid: bool, violates: bool) -> tuple[bool | None, bool | None]:
    """Both are unknown as long as neither is true."""
    return (invalid, violates) if invalid or violates else (None, None)


def notifications(post: Post, verdict: Verdict) -> dict[str, Row]:
    """One for each person at most: a mention before a quote before a reply; nobody hears of their own post."""
    rows: dict[str, Row] = {}
    for to, reason, about in _reasons(post, verdict):
        if to not in (post.creator, *rows):
            rows[to] = NOTIFICATION.row(
                did=to,
                author=post.creator,
                recordUri=post.uri,
                recordCid=post.cid,
                reason=reason,
                reasonSubject=about,
                sortAt=post.sort_at,
            )
    return rows


def corrections(post: Post, verdict: Verdict) -> tuple[list[Row], list[str]]:
    """Who has still to hear of a post, and who should not have heard of it, or not so."""
    wanted = notifications(post, verdict)
    right = {to for to, row in wanted.items() if post.told.get(to) == (row["reason"], row["reasonSubject"])}
    return [row for to, row in wanted.items() if to not in right], sorted(post.told.keys() - right)


def _reasons(post: Post, verdict: Verdict) -> Iterable[tuple[str, str, str | None]]:
    for did in mentions(post.value):
        yield did, "mention", None
    if post.quoted and not verdict.violates_embedding:
        yield authority_of(post.quoted), "quote", post.quoted
    if verdict.violates:
        return
    for ancestor in post.ancestors:
        yield authority_of(ancestor), "reply", ancestor
        if ancestor in (post.gate.get("hiddenReplies") or ()):
            return
