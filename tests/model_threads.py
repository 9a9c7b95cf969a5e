"""The model's idea of threads: is a reply in its place, do gates forbid it, who hears of it.

A post is judged by what was there when it was written, and by what of it came later; never by what went later
(docs/differences.md, docs/decisions/0006).
"""

from collections.abc import Iterator

from tests.model_history import POST, POST_GATE, THREAD_GATE, History, Version, authority

TOLD_ANCESTORS = 4
_RULE = f"{THREAD_GATE}#"


def flags(history: History, post: Version) -> dict[str, bool | None]:
    """The five flags of a post as the AppView has them: true, false, or unknown."""
    invalid, forbidden = is_misplaced(history, post), is_forbidden(history, post)
    unknown = not invalid and not forbidden
    return {
        "invalidReplyRoot": None if unknown else invalid,
        "violatesThreadGate": None if unknown else forbidden,
        "violatesEmbeddingRules": True if is_forbidden_quote(history, post) else None,
        "hasThreadGate": _has_gate(history, post, THREAD_GATE),
        "hasPostGate": _has_gate(history, post, POST_GATE),
    }


def _has_gate(history: History, post: Version, kind: str) -> bool | None:
    """False if there was one, and it was deleted after the post was written."""
    gate = _gate_uri(post.uri, kind)
    if history.of(gate) and history.of(gate)[-1] in history.live(kind):
        return True
    return False if any(time > post.time for time in history.deletions(gate)) else None


def is_misplaced(history: History, post: Version) -> bool:
    return not _stands(history, post, ())


def _stands(history: History, post: Version, below: tuple[Version, ...]) -> bool:
    """Whether a post is where it says: below one of the same thread that is so itself.

    That may have come later, and it may be gone by now. `below`: posts whose places depend on this one, for a circle of
    parents stands nowhere.
    """
    if post.parent is None:
        return True
    return any(
        (parent.root or parent.uri) == post.root
        and (parent.root is None) == (post.parent == post.root)
        and parent not in below
        and _stands(history, parent, (*below, post))
        for parent in history.from_then_on(post.parent, post.time)
    )


def is_forbidden(history: History, post: Version) -> bool:
    """Whether the gate of its thread kept its author from replying."""
    if post.root is None or authority(post.root) == post.did:
        return False
    gate = history.at(_gate_uri(post.root, THREAD_GATE), post.time)
    if gate is None or gate.get("allow") is None:
        return False
    return not any(_lets_in(history, rule, post) for rule in gate.get("allow"))


def _lets_in(history: History, rule: dict[str, str], post: Version) -> bool:
    assert post.root
    author = authority(post.root)
    match rule["$type"].removeprefix(_RULE):
        case "mentionRule":
            root = history.from_then_on(post.root, post.time)
            return bool(root) and post.did in mentions(root[0])
        case "followerRule":
            return _follows(history, post.did, author, post.time)
        case "followingRule":
            return _follows(history, author, post.did, post.time)
        case "listRule":
            return any(
                item.get("list") == rule["list"] and item.get("subject") == post.did
                for item in _standing(history, "app.bsky.graph.listitem", post.time)
            )
    return False


def _follows(history: History, who: str, whom: str, time: str) -> bool:
    follows = _standing(history, "app.bsky.graph.follow", time)
    return any(follow.did == who and follow.get("subject") == whom for follow in follows)


def _standing(history: History, collection: str, time: str) -> Iterator[Version]:
    return (version for version in history.ever(collection) if version.time <= time < version.until)


def is_forbidden_quote(history: History, post: Version) -> bool:
    """Whether whoever is quoted had forbidden it; one's own posts may always be quoted."""
    if post.quoted is None or authority(post.quoted) == post.did:
        return False
    gate = history.at(_gate_uri(post.quoted, POST_GATE), post.time)
    return gate is not None and any(
        rule["$type"] == f"{POST_GATE}#disableRule" for rule in gate.get("embeddingRules") or ()
    )


def told(history: History, post: Version) -> Iterator[tuple[str, str, str | None]]:
    """Who hears of a post, why, and about what: one thing each, the first that applies, and never of one's own."""
    heard = {post.did}
    for person, reason, subject in _reasons(history, post):
        if person not in heard:
            heard.add(person)
            yield person, reason, subject


def _reasons(history: History, post: Version) -> Iterator[tuple[str, str, str | None]]:
    for person in mentions(post):
        yield person, "mention", None
    if post.quoted and not is_forbidden_quote(history, post):
        yield authority(post.quoted), "quote", post.quoted
    if is_forbidden(history, post):
        return
    gate = history.at(_gate_uri(post.root or post.uri, THREAD_GATE), post.time)
    hidden = gate.get("hiddenReplies") or () if gate else ()
    for ancestor in _ancestors(history, post):
        yield authority(ancestor), "reply", ancestor
        if ancestor in hidden:
            return


def _ancestors(history: History, post: Version) -> Iterator[str]:
    """Nearest first, up to the first one that is not known."""
    above = post
    for _ in range(TOLD_ANCESTORS):
        known = history.from_then_on(above.parent, post.time) if above.parent else []
        if not known:
            return
        above = known[0]
        yield above.uri


def mentions(post: Version) -> list[str]:
    features = [feature for facet in post.get("facets") or () for feature in facet["features"]]
    return [feature["did"] for feature in features if feature["$type"] == "app.bsky.richtext.facet#mention"]


def _gate_uri(post_uri: str, kind: str) -> str:
    return post_uri.replace(f"/{POST}/", f"/{kind}/")
