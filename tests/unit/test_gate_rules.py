"""Gates: whom each rule lets in, and whom no rule does."""

from typing import Any

import pytest

from indexer.gate_rules import Relations, allows_reply, forbids_quotes
from tests.factories import ALICE, BOB, CAROL, LIST, Json, post, uri

GATE, POST_GATE = "app.bsky.feed.threadgate", "app.bsky.feed.postgate"
OURS, OTHERS = uri(ALICE, LIST, "l"), uri(ALICE, LIST, "m")


def rule(name: str, **fields: Any) -> Json:
    return {"$type": f"{GATE}#{name}", **fields}


def mentioning(*people: str) -> Json:
    features = [{"$type": "app.bsky.richtext.facet#mention", "did": person} for person in people]
    return post(facets=[{"index": {"byteStart": 0, "byteEnd": 1}, "features": features}])


MENTION, FOLLOWER, FOLLOWING = (rule(f"{name}Rule") for name in ("mention", "follower", "following"))
ON_A_LIST, UNKNOWN = rule("listRule", list=OURS), {"$type": "com.example.rule"}
NOBODY = Relations()
FOLLOWS, FOLLOWED = Relations(follows_author=True), Relations(followed_by_author=True)
LISTED = Relations(on_list=lambda it: it == OURS)


@pytest.mark.parametrize(
    ("gate", "root", "relations", "allowed"),
    [
        ({}, None, NOBODY, True),
        ({"allow": []}, mentioning(BOB), FOLLOWS, False),
        ({"allow": [UNKNOWN]}, mentioning(BOB), FOLLOWS, False),
        ({"allow": [UNKNOWN, FOLLOWER]}, None, FOLLOWS, True),
        ({"allow": [MENTION]}, mentioning(CAROL, BOB), NOBODY, True),
        ({"allow": [MENTION]}, mentioning(CAROL), FOLLOWS, False),
        ({"allow": [MENTION]}, None, NOBODY, False),  # whom a post mentions that nobody knows, nobody knows
        ({"allow": [FOLLOWER]}, None, FOLLOWS, True),
        ({"allow": [FOLLOWER]}, None, FOLLOWED, False),
        ({"allow": [FOLLOWING]}, None, FOLLOWED, True),
        ({"allow": [FOLLOWING]}, None, FOLLOWS, False),
        ({"allow": [ON_A_LIST]}, None, LISTED, True),
        ({"allow": [rule("listRule", list=OTHERS)]}, None, LISTED, False),
        ({"allow": [rule("listRule", list=OTHERS), ON_A_LIST]}, None, LISTED, True),
    ],
)
def test_one_rule_lets_in(gate: Json, root: Json | None, relations: Relations, *, allowed: bool) -> None:
    assert allows_reply(gate, root, BOB, relations) is allowed


@pytest.mark.parametrize(
    ("gate", "forbidden"),
    [
        ({}, False),
        ({"embeddingRules": []}, False),
        ({"embeddingRules": [UNKNOWN]}, False),
        ({"embeddingRules": [UNKNOWN, {"$type": f"{POST_GATE}#disableRule"}]}, True),
    ],
)
def test_one_rule_forbids_quotes(gate: Json, *, forbidden: bool) -> None:
    assert forbids_quotes(gate) is forbidden
