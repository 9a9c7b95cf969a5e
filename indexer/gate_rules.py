"""What the gates of a post allow: who may reply in its thread, who may quote it (lexicons threadgate and postgate)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_THREADGATE = "app.bsky.feed.threadgate"
MENTION = "app.bsky.richtext.facet#mention"


@dataclass(frozen=True, slots=True)
class Relations:
    """How the one who replies and the author of the root stand to each other, when the reply was written."""

    follows_author: bool = False
    followed_by_author: bool = False
    on_list: Callable[[str], bool] = lambda list_uri: False


def allows_reply(gate: Mapping[str, Any], root: Mapping[str, Any] | None, replier: str, relations: Relations) -> bool:
    """True if one rule lets them in. No `allow` lets everybody in; an empty one, or unknown rules alone, nobody.

    The author of the root is always allowed, which the caller knows. `root` is the root's record, if it is known.
    """
    rules = gate.get("allow")
    if rules is None:
        return True
    return any(_lets_in(rule, root, replier, relations) for rule in rules)


def _lets_in(rule: Mapping[str, Any], root: Mapping[str, Any] | None, replier: str, relations: Relations) -> bool:
    match rule.get("$type"):
        case "app.bsky.feed.threadgate#mentionRule":
            return root is not None and replier in mentions(root)
        case "app.bsky.feed.threadgate#followerRule":
            return relations.follows_author
        case "app.bsky.feed.threadgate#followingRule":
            return relations.followed_by_author
        case "app.bsky.feed.threadgate#listRule":
            return relations.on_list(rule["list"])
    return False


def rule_lists(gate: Mapping[str, Any]) -> list[str]:
    """The lists that a gate's rules name."""
    return [rule["list"] for rule in gate.get("allow") or () if rule.get("$type") == f"{_THREADGATE}#listRule"]


def forbids_quotes(gate: Mapping[str, Any]) -> bool:
    rules = gate.get("embeddingRules") or ()
    return any(rule.get("$type") == "app.bsky.feed.postgate#disableRule" for rule in rules)


def mentions(post: Mapping[str, Any]) -> list[str]:
    """The DIDs that a post's facets mention, in their order."""
    return [
        feature["did"]
        for facet in post.get("facets") or ()
        for feature in facet.get("features") or ()
        if feature.get("$type") == MENTION
    ]
