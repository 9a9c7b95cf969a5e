"""Who hears of a record, why, and about what."""

from typing import Any

import pytest

from indexer.handler import Record
from indexer.records import HANDLERS
from indexer.threads import Post, Verdict, notifications
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, DAN, FOLLOW, LIKE, POST, PROFILE, REPOST, Json, cid, moment, uri

Told = list[tuple[str, str, str | None]]
VERIFICATION, PACK = "app.bsky.graph.verification", "app.bsky.graph.starterpack"


def told(collection: str, value: Json, rkey: str = "a") -> Told:
    """Of a record of ALICE's that looks at no other: (who, why, about what)."""
    handler = HANDLERS[collection]
    record = Record(uri(ALICE, collection, rkey), cid(value), ALICE, rkey, value, moment(1))
    rows = [*handler.notifications(record), *handler.announcements(record)]
    assert all(row["author"] == ALICE and row["recordCid"] == cid(value) for row in rows)
    return [(row["did"], row["reason"], row["reasonSubject"]) for row in rows]


@pytest.mark.parametrize(("collection", "reason"), [(LIKE, "like"), (REPOST, "repost")])
def test_whose_record_is_liked_or_reposted_hears_of_it_and_whose_repost_led_there(collection: str, reason: str) -> None:
    bobs, via = uri(BOB, POST, "b"), uri(CAROL, REPOST, "c")

    def opinion(subject: str, via: str = "") -> Told:
        value = make.record(collection, subject=make.ref(subject))
        return told(collection, value | ({"via": make.ref(via)} if via else {}))

    about_bobs = (BOB, reason, bobs)
    assert opinion(bobs) == [about_bobs]
    assert opinion(bobs, via) == [about_bobs, (CAROL, f"{reason}-via-repost", via)]
    assert opinion(bobs, uri(ALICE, REPOST, "own")) == [about_bobs]
    assert opinion(uri(ALICE, POST, "own"), via) == []
    assert opinion("at://bob.test/app.bsky.feed.post/b") == [("bob.test", reason, "at://bob.test/app.bsky.feed.post/b")]


@pytest.mark.parametrize("who", [ALICE, BOB])
def test_these_tell_even_oneself(who: str) -> None:
    pack = uri(who, PACK, "s")
    verification = make.record(VERIFICATION, subject=who, handle="x.test", displayName="x")
    assert told(FOLLOW, make.follow(who)) == [(who, "follow", None)]
    assert told(VERIFICATION, verification) == [(who, "verified", None)]
    assert told(PROFILE, make.profile("x", joinedViaStarterPack=make.ref(pack)), "self") == [
        (who, "starterpack-joined", pack)
    ]


MENTIONS_CAROL = {"facets": [{"features": [{"$type": "app.bsky.richtext.facet#mention", "did": CAROL}] * 2}]}
ABOVE = [uri(make.did(name), POST, "p") for name in ("one", "two", "three", "four")]


def heard(*, violates: bool = False, forbidden_quote: bool = False, **fields: Any) -> Told:
    """Of a post of ALICE's."""
    nothing = {"root": None, "parent": None, "value": {}, "gate": {}, "root_value": None, "quoted": None}
    verdict = Verdict(None, violates, forbidden_quote)
    own = {"uri": uri(ALICE, POST, "a"), "cid": "c", "creator": ALICE, "time": moment(1), "sort_at": moment(1)}
    post = Post(**(own | nothing | {"stored": verdict} | fields))
    return [(to, row["reason"], row["reasonSubject"]) for to, row in notifications(post, verdict).items()]


def replies(*posts: str) -> Told:
    return [(post.split("/")[2], "reply", post) for post in posts]


def test_everybody_above_a_reply_hears_of_it_nearest_first() -> None:
    assert heard(ancestors=ABOVE) == replies(*ABOVE)
    assert heard(ancestors=[ABOVE[0], uri(ALICE, POST, "own"), ABOVE[1]]) == replies(ABOVE[0], ABOVE[1])
    assert heard(ancestors=ABOVE, violates=True) == []


def test_above_a_hidden_reply_nobody_hears_and_its_author_does() -> None:
    assert heard(ancestors=ABOVE, gate={"hiddenReplies": [ABOVE[1]]}) == replies(*ABOVE[:2])


def test_each_hears_once_and_of_a_mention_rather_than_a_quote_rather_than_a_reply() -> None:
    carols, dans = uri(CAROL, POST, "c"), uri(DAN, POST, "d")
    other = uri(DAN, POST, "other")
    assert heard(value=MENTIONS_CAROL, quoted=carols, ancestors=[carols, dans]) == [
        (CAROL, "mention", None),
        (DAN, "reply", dans),
    ]
    assert heard(quoted=dans, ancestors=[other]) == [(DAN, "quote", dans)]
    assert heard(quoted=dans, forbidden_quote=True, ancestors=[other]) == replies(other)
    assert heard(value=MENTIONS_CAROL, quoted=dans, violates=True, ancestors=[other]) == [
        (CAROL, "mention", None),
        (DAN, "quote", dans),
    ]
    assert heard(quoted=uri(ALICE, POST, "own")) == []
