"""What people write in a made-up world (worlds.py): posts with every embed, gates with every rule, and the rest."""

from collections.abc import Callable, Sequence
from typing import Any

from tests import factories as make
from tests.factories import BLOCK, FOLLOW, LIST, LIST_ITEM, POST, REPOST, Json, uri

Choose = Callable[[Sequence[Any]], Any]
THREAD_GATE, POST_GATE, LIST_BLOCK = "app.bsky.feed.threadgate", "app.bsky.feed.postgate", "app.bsky.graph.listblock"
EMBED = "app.bsky.embed."
HANDLE_POST = "at://alice.test/app.bsky.feed.post/a"
FEED = "app.bsky.feed.generator"


def post(choose: Choose, quotable: Sequence[str], mentioned: Sequence[str], place: Json | None) -> Json:
    fields = [choose([{}, {}, {"langs": ["en"], "tags": ["a", "b"]}, {"langs": [], "tags": []}])]
    if embed := _embed(choose, quotable):
        fields.append({"embed": embed})
    if mentioned:
        fields.append({"facets": [_mention(person) for person in mentioned]})
    if place:
        fields.append({"reply": place})
    return make.post("hello", **{name: value for some in fields for name, value in some.items()})


def _mention(person: str) -> Json:
    feature = {"$type": "app.bsky.richtext.facet#mention", "did": person}
    return {"index": {"byteStart": 0, "byteEnd": 1}, "features": [feature]}


def _embed(choose: Choose, quotable: Sequence[str]) -> Json | None:
    match choose(["none", "none", "quote", "quote", "media", "both", "other"]):
        case "quote" if quotable:
            return {"$type": f"{EMBED}record", "record": make.ref(choose(quotable))}
        case "media":
            return _media(choose)
        case "both" if quotable:
            return {
                "$type": f"{EMBED}recordWithMedia",
                "record": {"$type": f"{EMBED}record", "record": make.ref(choose(quotable))},
                "media": _media(choose),
            }
        case "other":
            return choose([{"$type": "com.example.embed"}, {"$type": f"{EMBED}record", "record": make.ref(_feed())}])
    return None


def _feed() -> str:
    return uri(make.CAROL, FEED, "f")


def _media(choose: Choose) -> Json:
    picture = {"image": make.blob("one"), "alt": "one"}
    sized = picture | {"$type": f"{EMBED}gallery#image", "aspectRatio": {"width": 1, "height": 1}}
    link = {"uri": "https://example.com", "title": "t", "description": "d"}
    return choose(  # type: ignore[no-any-return]
        [
            {"$type": f"{EMBED}images", "images": [picture, {"image": make.blob("two"), "alt": ""}]},
            {"$type": f"{EMBED}gallery", "items": [sized, {"$type": "com.example.item"}, sized]},
            {"$type": f"{EMBED}external", "external": link},
            {"$type": f"{EMBED}external", "external": link | {"thumb": make.blob("thumb")}},
            {"$type": f"{EMBED}video", "video": make.blob("film", "video/mp4"), "alt": "film"},
            {"$type": f"{EMBED}video", "video": make.blob("film", "video/mp4")},
        ]
    )


def opinion(choose: Choose, collection: str, people: Sequence[str], subjects: Sequence[str]) -> Json:
    """A like or a repost."""
    via = choose([None, None, uri(choose(people), REPOST, "a")])
    return make.record(collection, subject=make.ref(choose(subjects))) | ({"via": make.ref(via)} if via else {})


def tie(choose: Choose, who: str, collection: str, people: Sequence[str]) -> Json:
    """A follow, a block, a list, somebody on it, or a block of all on it."""
    lists = [uri(who, LIST, "l"), uri(who, LIST, "m")]
    values: dict[str, Callable[[], Json]] = {
        FOLLOW: lambda: make.follow(choose(people)),
        BLOCK: lambda: make.record(BLOCK, subject=choose(people)),
        LIST: lambda: make.record(LIST, name="l", purpose="app.bsky.graph.defs#curatelist"),
        LIST_ITEM: lambda: make.record(LIST_ITEM, subject=choose(people), list=choose(lists[:1] + lists)),
        LIST_BLOCK: lambda: make.record(LIST_BLOCK, subject=uri(choose(people), LIST, choose("lm"))),
    }
    return values[collection]()


def gate(choose: Choose, who: str, collection: str, rkey: str, replies: Sequence[str]) -> Json:
    value = make.record(collection, post=uri(who, POST, rkey))
    if collection == POST_GATE:
        rules: list[Json] = [{"embeddingRules": [{"$type": f"{POST_GATE}#disableRule"}]}, {"embeddingRules": []}, {}]
        return value | choose(rules)
    rule = choose(["mentionRule", "followerRule", "followerRule", "followingRule", "listRule", "listRule", "otherRule"])
    named = {"$type": f"{THREAD_GATE}#{rule}"} | ({"list": uri(who, LIST, "l")} if rule == "listRule" else {})
    allow: Json = choose([{}, {"allow": []}, {"allow": []}, *[{"allow": [named]}] * 4])
    return value | allow | choose([{}, {"hiddenReplies": list(replies)}])


def broken(value: Json) -> Json:
    """What breaks its lexicon, or a rule that no lexicon can say, and so holds nothing."""
    return {name: field for name, field in value.items() if name != "createdAt"}


def thread_of(place: Json | None, own: str) -> str:
    """The root that a post names, or itself."""
    return str(place["root"]["uri"]) if place else own
