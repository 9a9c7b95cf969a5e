"""Where a post stands among others: is its place in the thread valid, do gates forbid it, who is to be told.

Each version of a post is settled once, when everything that came before it in time is there; what comes late (a parent
after its reply, a gate after the reply that it forbids) settles again what it changes. The answers are kept: a later
deletion of a parent, a follow or a gate does not change them, since a reply is judged by the time of its writing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from common.syntax import authority_of
from indexer.gate_rules import forbids_quotes, mentions
from indexer.notifications import NOTIFICATION
from indexer.tables import Row

TOLD_ANCESTORS = 4


@dataclass(frozen=True, slots=True)
class Gate:
    value: dict[str, Any]
    time: str


@dataclass(slots=True)
class Post:
    """A post and what its place depends on. `ancestors`: the known posts above it, nearest first.

    `told`: who has heard of it, why, and about what.
    """

    uri: str
    cid: str
    creator: str
    time: str
    sort_at: str
    root: str | None
    parent: str | None
    invalid: bool | None
    violates: bool | None
    violates_embedding: bool | None
    value: dict[str, Any]
    parent_known: bool
    parent_root: str | None
    parent_invalid: bool | None
    gate: Gate | None
    root_value: dict[str, Any] | None
    quoted: str | None = None
    quoted_gate: Gate | None = None
    ancestors: list[str] = field(default_factory=list)
    told: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def forbids_its_quote(self) -> bool:
        """Whether who is quoted had forbidden it; one's own posts may always be quoted."""
        gate = self.quoted_gate_in_force()
        return gate is not None and authority_of(self.quoted or "") != self.creator and forbids_quotes(gate)

    def quoted_gate_in_force(self) -> dict[str, Any] | None:
        """The gate of the post that it quotes, if it was there when this was written."""
        return self.quoted_gate.value if self.quoted_gate and self.quoted_gate.time <= self.time else None

    def gate_in_force(self) -> dict[str, Any] | None:
        """The gate of its thread, if it was there when the post was written."""
        return self.gate.value if self.gate and self.gate.time <= self.time else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The three flags of a post: true, false and unknown, as the AppView writes them."""

    invalid: bool | None
    violates: bool | None
    violates_embedding: bool | None


def misplaced(post: Post, parent_invalid: bool | None) -> bool:
    """A reply whose parent is unknown or misplaced itself, or stands in another thread than the reply says."""
    if not post.parent_known or parent_invalid:
        return True
    if post.parent == post.root:
        return post.parent_root is not None
    return post.parent_root != post.root


def flags(invalid: bool, violates: bool) -> tuple[bool | None, bool | None]:
    """Both are unknown as long as neither is true."""
    return (invalid, violates) if invalid or violates else (None, None)


def notifications(post: Post, verdict: Verdict) -> Iterable[Row]:
    """One for each person at most: a mention before a quote before a reply; nobody hears of their own post."""
    told = {post.creator, *post.told}
    for to, reason, about in _reasons(post, verdict):
        if to not in told:
            told.add(to)
            yield NOTIFICATION.row(
                did=to,
                author=post.creator,
                recordUri=post.uri,
                recordCid=post.cid,
                reason=reason,
                reasonSubject=about,
                sortAt=post.sort_at,
            )


def _reasons(post: Post, verdict: Verdict) -> Iterable[tuple[str, str, str | None]]:
    for did in mentions(post.value):
        yield did, "mention", None
    if post.quoted and not verdict.violates_embedding:
        yield authority_of(post.quoted), "quote", post.quoted
    if verdict.violates:
        return
    for ancestor in _heeded_ancestors(post):
        yield authority_of(ancestor), "reply", ancestor


def _heeded_ancestors(post: Post) -> Iterable[str]:
    """Up to the first one that the gate hides."""
    hidden = (post.gate_in_force() or {}).get("hiddenReplies") or ()
    for ancestor in post.ancestors:
        yield ancestor
        if ancestor in hidden:
            return


def told_amiss(post: Post, verdict: Verdict, *, anew: bool) -> list[str]:
    """Who should not have heard of a post, as it turns out: by a gate that came late; if it is judged `anew`, also by
    posts above it that were gone already."""
    heeded = {*_heeded_ancestors(post)}
    above_hidden = {*post.ancestors} - heeded
    return [
        person
        for person, (reason, about) in post.told.items()
        if (reason == "reply" and (verdict.violates or about in above_hidden or (anew and about not in heeded)))
        or (reason == "quote" and verdict.violates_embedding)
    ]
