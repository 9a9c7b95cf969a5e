"""One realistic record of each type the AppView knows, and the rows that it must become.

The rows are written out by hand. They leave out what is the same in all: see `COMMON`.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.factories import ALICE, BOB, CAROL, POST, Json, blob, cid, ref, uri

RKEY = "3ljcuotqg22zz"
CREATED = "2025-03-01T13:00:30.1239+01:00"
CREATED_AT = "2025-03-01T12:00:30.123Z"
INDEXED_AT = "2025-03-01T12:01:00.000Z"  # 60 seconds after noon

POST_URI = f"at://{BOB}/app.bsky.feed.post/3ljabc"
ROOT_URI = f"at://{CAROL}/app.bsky.feed.post/3ljroot"
LIST_URI = f"at://{ALICE}/app.bsky.graph.list/3ljlist"
FACETS = [{"index": {"byteStart": 0, "byteEnd": 2}, "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "é"}]}]
FACETS_JSON = '[{"index":{"byteStart":0,"byteEnd":2},"features":[{"$type":"app.bsky.richtext.facet#tag","tag":"é"}]}]'


@dataclass(frozen=True)
class Example:
    """A record of ALICE's, indexed at INDEXED_AT, and its rows: table -> rows, each without the COMMON columns."""

    collection: str
    record: Json
    rows: dict[str, list[Json]] = field(default_factory=dict)
    rkey: str = RKEY
    bare: frozenset[str] = frozenset()  # tables whose rows have no COMMON columns

    @property
    def uri(self) -> str:
        return uri(ALICE, self.collection, self.rkey)

    @property
    def full_rows(self) -> dict[str, list[Json]]:
        """The rows with the columns that nearly all have."""
        common = {
            "uri": self.uri,
            "cid": cid(self.record),
            "creator": ALICE,
            "createdAt": CREATED_AT,
            "indexedAt": INDEXED_AT,
        }
        return {
            table: [row if table in self.bare else common | row for row in rows] for table, rows in self.rows.items()
        }


def example(collection: str, fields: Json, rows: dict[str, list[Json]], **options: Any) -> Example:
    record = {"$type": collection, **fields}
    return Example(collection, record, rows, **options)


def feed_item(collection: str, kind: str, post_uri: str, record: Json) -> Json:
    """sortAt is the earlier of createdAt and indexedAt."""
    return {
        "uri": uri(ALICE, collection, RKEY),
        "cid": cid({"$type": collection, **record}),
        "type": kind,
        "postUri": post_uri,
        "originatorDid": ALICE,
        "sortAt": CREATED_AT,
    }


def _post(embed: Json | None, embedded: dict[str, list[Json]], columns: Json | None = None, **fields: Any) -> Example:
    """A post, with the rows that its embed brings, and the columns that are not empty."""
    record = {"text": "hello", "createdAt": CREATED} | ({"embed": embed} if embed else {}) | fields
    own = uri(ALICE, POST, RKEY)
    rows: dict[str, list[Json]] = {
        "post": [{"text": "hello"} | dict.fromkeys(_EMPTY) | (columns or {})],
        "feed_item": [feed_item(POST, "post", own, record)],
    }
    for table, found in embedded.items():
        first = _quote_columns(own, record) if table == "quote" else {"postUri": own}
        rows[table] = [first | row for row in found]
    return example(POST, record, rows, bare=frozenset(rows) - {"post"})


_EMPTY = ("replyRoot", "replyRootCid", "replyParent", "replyParentCid", "langs", "tags")


def _quote_columns(own: str, record: Json) -> Json:
    return {"uri": own, "cid": cid({"$type": POST, **record}), "createdAt": CREATED_AT, "indexedAt": INDEXED_AT}


def _profile() -> Example:
    fields = {
        "displayName": "Alice 🐇",
        "description": "down\nthe hole",
        "avatar": blob("avatar"),
        "banner": blob("banner", "image/png"),
        "joinedViaStarterPack": ref(f"at://{BOB}/app.bsky.graph.starterpack/3ljpack"),
        "createdAt": CREATED,
    }
    row = {
        "displayName": "Alice 🐇",
        "description": "down\nthe hole",
        "avatarCid": blob("avatar")["ref"]["$link"],
        "bannerCid": blob("banner")["ref"]["$link"],
        "joinedViaStarterPackUri": f"at://{BOB}/app.bsky.graph.starterpack/3ljpack",
        "createdAt": CREATED,  # as it was written, here alone
    }
    return example("app.bsky.actor.profile", fields, {"profile": [row]}, rkey="self")


IMAGES = {
    "$type": "app.bsky.embed.images",
    "images": [{"image": blob("one"), "alt": "a cat"}, {"image": blob("two"), "alt": ""}],
}
IMAGE_ROWS = [
    {"position": "0", "imageCid": blob("one")["ref"]["$link"], "alt": "a cat"},
    {"position": "1", "imageCid": blob("two")["ref"]["$link"], "alt": ""},
]
QUOTED = {"$type": "app.bsky.embed.record", "record": ref(POST_URI)}
QUOTE_ROWS = {
    "post_embed_record": [{"embedUri": POST_URI, "embedCid": cid(POST_URI)}],
    "quote": [{"subject": POST_URI, "subjectCid": cid(POST_URI)}],
}
VIA = f"at://{CAROL}/app.bsky.feed.repost/3ljvia"
LANGS_AND_TAGS = {"langs": ["en", "pt-BR"], "tags": ["a", "b"]}
SUBJECT = {"subject": ref(POST_URI), "createdAt": CREATED}
SUBJECT_ROW = {"subject": POST_URI, "subjectCid": cid(POST_URI), "via": None, "viaCid": None}

EXAMPLES: dict[str, Example] = {
    "post": _post(None, {}, LANGS_AND_TAGS, **LANGS_AND_TAGS),
    "post with empty lists": _post(None, {}, langs=[], tags=[]),
    "reply": _post(
        None,
        {},
        {
            **{"replyRoot": ROOT_URI, "replyRootCid": cid(ROOT_URI)},
            **{"replyParent": POST_URI, "replyParentCid": cid(POST_URI)},
        },
        reply={"root": ref(ROOT_URI), "parent": ref(POST_URI)},
    ),
    "post with images": _post(IMAGES, {"post_embed_image": IMAGE_ROWS}),
    "post with no images": _post(IMAGES | {"images": []}, {}),
    "post with a gallery that holds a stranger": _post(
        {
            "$type": "app.bsky.embed.gallery",
            "items": [
                {"$type": "com.example.poem", "text": "..."},
                {
                    "$type": "app.bsky.embed.gallery#image",
                    **{"image": blob("one"), "thumbnail": blob("small"), "alt": "a cat"},
                    "aspectRatio": {"width": 1, "height": 1},
                },
            ],
        },
        {"post_embed_gallery_image": [{**IMAGE_ROWS[0], "position": "1"}]},
    ),
    "post with a link": _post(
        {
            "$type": "app.bsky.embed.external",
            "external": {"uri": "https://a.example/", "title": "A", "description": "d", "thumb": blob("thumb")},
        },
        {
            "post_embed_external": [
                {
                    **{"uri": "https://a.example/", "title": "A", "description": "d"},
                    "thumbCid": blob("thumb")["ref"]["$link"],
                }
            ]
        },
    ),
    "post with a link without a picture": _post(
        {"$type": "app.bsky.embed.external", "external": {"uri": "https://a.example/", "title": "", "description": ""}},
        {
            "post_embed_external": [
                {"uri": "https://a.example/", "title": "", "description": "", "thumbCid": None},
            ]
        },
    ),
    "post with a video": _post(
        {"$type": "app.bsky.embed.video", "video": blob("film", "video/mp4"), "alt": "moving"},
        {"post_embed_video": [{"videoCid": blob("film")["ref"]["$link"], "alt": "moving"}]},
    ),
    "quote": _post(QUOTED, QUOTE_ROWS),
    "quote with images": _post(
        {"$type": "app.bsky.embed.recordWithMedia", "record": {"record": ref(POST_URI)}, "media": IMAGES},
        QUOTE_ROWS | {"post_embed_image": IMAGE_ROWS},
    ),
    "post that embeds a list": _post(
        {"$type": "app.bsky.embed.record", "record": ref(LIST_URI)},
        {"post_embed_record": [{"embedUri": LIST_URI, "embedCid": cid(LIST_URI)}]},
    ),
    "post with an embed of tomorrow": _post({"$type": "com.example.hologram", "depth": 3}, {}),
    "like": example("app.bsky.feed.like", SUBJECT, {"like": [SUBJECT_ROW]}),
    "like by way of a repost": example(
        "app.bsky.feed.like",
        {**SUBJECT, "via": ref(VIA)},
        {"like": [{**SUBJECT_ROW, "via": VIA, "viaCid": cid(VIA)}]},
    ),
    "repost": example(
        "app.bsky.feed.repost",
        SUBJECT,
        {"repost": [SUBJECT_ROW], "feed_item": [feed_item("app.bsky.feed.repost", "repost", POST_URI, SUBJECT)]},
        bare=frozenset({"feed_item"}),
    ),
    "follow": example(
        "app.bsky.graph.follow", {"subject": BOB, "createdAt": CREATED}, {"follow": [{"subjectDid": BOB}]}
    ),
    "block": example(
        "app.bsky.graph.block", {"subject": BOB, "createdAt": CREATED}, {"actor_block": [{"subjectDid": BOB}]}
    ),
    "profile": _profile(),
    "profile that says nothing": example(
        "app.bsky.actor.profile",
        {},
        {
            "profile": [
                {
                    **{"displayName": None, "description": None, "avatarCid": None, "bannerCid": None},
                    **{"joinedViaStarterPackUri": None, "createdAt": INDEXED_AT},
                }
            ]
        },
        rkey="self",
    ),
    "profile under another key": example("app.bsky.actor.profile", {"displayName": "x"}, {}, rkey="other"),
    "list": example(
        "app.bsky.graph.list",
        {
            **{"name": "cats", "purpose": "app.bsky.graph.defs#curatelist", "description": "é", "createdAt": CREATED},
            **{"descriptionFacets": FACETS, "avatar": blob("avatar")},
        },
        {
            "list": [
                {
                    **{"name": "cats", "purpose": "app.bsky.graph.defs#curatelist", "description": "é"},
                    **{"descriptionFacets": FACETS_JSON, "avatarCid": blob("avatar")["ref"]["$link"]},
                }
            ]
        },
    ),
    "list item": example(
        "app.bsky.graph.listitem",
        {"subject": BOB, "list": LIST_URI, "createdAt": CREATED},
        {"list_item": [{"subjectDid": BOB, "listUri": LIST_URI}]},
    ),
    "list block": example(
        "app.bsky.graph.listblock",
        {"subject": LIST_URI, "createdAt": CREATED},
        {"list_block": [{"subjectUri": LIST_URI}]},
    ),
    "starter pack": example(
        "app.bsky.graph.starterpack",
        {"name": "welcome", "list": LIST_URI, "createdAt": CREATED},
        {"starter_pack": [{"name": "welcome"}]},
    ),
    "verification": example(
        "app.bsky.graph.verification",
        {"subject": BOB, "handle": "bob.test", "displayName": "Bob", "createdAt": CREATED},
        {"verification": [{"rkey": RKEY, "subject": BOB, "handle": "bob.test", "displayName": "Bob"}]},
    ),
    "feed generator": example(
        "app.bsky.feed.generator",
        {
            **{"did": "did:web:feeds.example", "displayName": "cats", "description": "é", "descriptionFacets": FACETS},
            **{"avatar": blob("avatar", "image/png"), "createdAt": CREATED},
        },
        {
            "feed_generator": [
                {
                    **{"feedDid": "did:web:feeds.example", "displayName": "cats", "description": "é"},
                    **{"descriptionFacets": FACETS_JSON, "avatarCid": blob("avatar")["ref"]["$link"]},
                }
            ]
        },
        rkey="cats",
    ),
    "labeler": example(
        "app.bsky.labeler.service",
        {"policies": {"labelValues": ["spam"]}, "createdAt": CREATED},
        {"labeler": [{}]},
        rkey="self",
    ),
    "labeler under another key": example(
        "app.bsky.labeler.service", {"policies": {"labelValues": []}, "createdAt": CREATED}, {}
    ),
    "thread gate": example(
        "app.bsky.feed.threadgate",
        {"post": uri(ALICE, "app.bsky.feed.post", RKEY), "allow": [], "createdAt": CREATED},
        {"thread_gate": [{"postUri": uri(ALICE, "app.bsky.feed.post", RKEY)}]},
    ),
    "post gate": example(
        "app.bsky.feed.postgate",
        {"post": uri(ALICE, "app.bsky.feed.post", RKEY), "createdAt": CREATED},
        {"post_gate": [{"postUri": uri(ALICE, "app.bsky.feed.post", RKEY)}]},
    ),
    "status": example(
        "app.bsky.actor.status", {"status": "app.bsky.actor.status#live", "createdAt": CREATED}, {}, rkey="self"
    ),
    "notification declaration": example(
        "app.bsky.notification.declaration", {"allowSubscriptions": "followers"}, {}, rkey="self"
    ),
    "chat declaration": example("chat.bsky.actor.declaration", {"allowIncoming": 5}, {}, rkey="self"),
    "messenger declaration": example(
        "com.germnetwork.declaration", {"version": "1.0.0", "currentKey": {"$bytes": "AQID"}}, {}, rkey="self"
    ),
}
