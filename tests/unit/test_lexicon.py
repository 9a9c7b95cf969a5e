"""Lexicons: which records are kept, which are refused and why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import BadInput
from indexer.lexicon import Lexicons, validator
from indexer.lexicon_checks import Broken, graphemes

DATA = Path(__file__).parents[1] / "data" / "lexicon"
LEXICONS = Path(__file__).parents[2] / "indexer" / "lexicons"
OBSERVED = json.loads((DATA / "observed.json").read_text())
NOW = "2024-10-01T12:00:00.123Z"
DID = "did:plc:2xgcmecbl6b4k4rt2hbzdufd"
URI = f"at://{DID}/app.bsky.feed.post/3l5exampleaaa"
CID = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"
RAW = CID.replace("bafyrei", "bafkrei")
BLOB = {"$type": "blob", "ref": {"$link": RAW}, "mimeType": "image/png", "size": 1000}
FAMILY = "👨‍👩‍👧‍👦"


def broken_rule(record: dict[str, Any], nsid: str = "") -> str | None:
    """What the record's own collection says against it."""
    try:
        validator(nsid or record["$type"])(record)
    except BadInput as bad:
        return bad.detail if bad.reason == "invalid_record" else bad.reason
    return None


def post(**properties: Any) -> dict[str, Any]:
    return {"$type": "app.bsky.feed.post", "text": "hello", "createdAt": NOW, **properties}


def like(**properties: Any) -> dict[str, Any]:
    return {"$type": "app.bsky.feed.like", "subject": {"uri": URI, "cid": CID}, "createdAt": NOW, **properties}


def profile(**properties: Any) -> dict[str, Any]:
    return {"$type": "app.bsky.actor.profile", **properties}


def image(blob: dict[str, Any], **properties: Any) -> dict[str, Any]:
    item = {"alt": "", "image": blob, **properties}
    return post(embed={"$type": "app.bsky.embed.images", "images": [item]})


def name_list(name: str) -> dict[str, Any]:
    return {"$type": "app.bsky.graph.list", "name": name, "purpose": "anything", "createdAt": NOW}


@pytest.mark.parametrize("record", OBSERVED["kept"])
def test_what_the_appview_kept_is_valid(record: dict[str, Any]) -> None:
    assert broken_rule(record) is None


@pytest.mark.parametrize("case", OBSERVED["refused"], ids=lambda case: case["broken"])
def test_what_the_appview_refused_breaks_a_rule(case: dict[str, Any]) -> None:
    assert broken_rule(case["record"]) == case["broken"]


VALID = {
    "properties that no lexicon knows": post(extra={"deep": [1, 1.5, None, {"$link": CID}]}),
    "an embed of an unknown type": post(embed={"$type": "com.example.embed", "images": 5}),
    "a fragment for main is an unknown type": post(embed={"$type": "app.bsky.embed.images#main"}),
    "a facet feature of an unknown type": post(
        facets=[{"index": {"byteStart": 0, "byteEnd": 0}, "features": [{"$type": "x"}]}]
    ),
    "no images at all": post(embed={"$type": "app.bsky.embed.images", "images": []}),
    "an inner object that names its own type": post(
        reply={
            "$type": "app.bsky.feed.post#replyRef",
            "root": {"uri": URI, "cid": CID},
            "parent": {"uri": URI, "cid": CID},
        }
    ),
    "languages that are only well-formed": post(langs=["jp", "i-klingon", "x-foo"]),
    "a day that the month lacks": post(createdAt="2024-02-30T00:00:00Z"),
    "the year 0": post(createdAt="0000-01-01T00:00:00Z"),
    "300 graphemes": post(text="é" * 300),
    "3000 bytes in 120 graphemes": post(text=FAMILY * 120),
    "a subject that is a handle's": like(subject={"uri": "at://alice.test/app.bsky.feed.post/x", "cid": CID}),
    "a subject without a collection": like(subject={"uri": f"at://{DID}", "cid": CID}),
    "a vector image": image({**BLOB, "mimeType": "image/svg+xml"}),
    "the literal image/*": image({**BLOB, "mimeType": "image/*"}),
    "an empty image": image({**BLOB, "size": 0}),
    "an image of exactly the limit": image({**BLOB, "size": 2_000_000}),
    "an empty profile": profile(),
    "a list name of 64 bytes": name_list("é" * 32),
}


@pytest.mark.parametrize("record", VALID.values(), ids=VALID.keys())
def test_a_record_is_valid_with(record: dict[str, Any]) -> None:
    assert broken_rule(record) is None


INVALID = {
    "langs is no array": post(langs=None),
    "via is no object": like(via=None),
    "subject lacks cid": like(subject={"uri": URI}),
    "subject is no object": like(subject={"$link": CID}),
    "embed is no object with a $type": post(embed={"$type": 5, "images": []}),
    "reply.$type is not app.bsky.feed.post#replyRef": post(
        reply={"$type": "other", "root": {"uri": URI, "cid": CID}, "parent": {"uri": URI, "cid": CID}}
    ),
    "embed.images.0.alt is no string": image(BLOB, alt=None),
    "embed.images.0.aspectRatio.width is no integer": image(BLOB, aspectRatio={"width": 1.0, "height": 1}),
    "embed.images.0.aspectRatio.height is no integer": image(BLOB, aspectRatio={"width": 1, "height": True}),
    "embed.images.0.aspectRatio.width is outside 1..9007199254740991": image(
        BLOB, aspectRatio={"width": 0, "height": 1}
    ),
    "embed.images has 5 items": post(
        embed={"$type": "app.bsky.embed.images", "images": [{"alt": "", "image": BLOB}] * 5}
    ),
    "langs.1 is no language": post(langs=["en", "en_US"]),
    "langs.0 is no language": post(langs=["english"]),
    "tags.0 has 65 graphemes": post(tags=["é" * 65]),
    "text has 301 graphemes": post(text="é" * 301),
    "text has 3025 bytes": post(text=FAMILY * 121),
    "name has 66 bytes": name_list("é" * 33),
    "name has 0 bytes": name_list(""),
    "subject.uri is no at-uri": like(subject={"uri": URI + "/", "cid": CID}),
    "subject.cid is no cid": like(subject={"uri": URI, "cid": CID.upper()}),
    "createdAt is no datetime": post(createdAt="0000-01-01T00:00:00+00:01"),
    "website is no uri": profile(website="example.com"),
    "avatar is no blob": profile(avatar={"cid": RAW, "mimeType": "image/png"}),
    "banner is no blob": profile(banner={**BLOB, "extra": 1}),
    "avatar is a blob of a MIME type that is not accepted": profile(avatar={**BLOB, "mimeType": "image/webp"}),
    "avatar is a blob of a size that is not accepted": profile(avatar={**BLOB, "size": 1_000_001}),
    "banner is a blob of a size that is not accepted": profile(banner={**BLOB, "size": -1}),
    "embed.images.0.image is a blob of a size that is not accepted": image({**BLOB, "size": 2_000_001}),
    "avatar is a blob without a link to raw bytes": profile(avatar={**BLOB, "ref": {"$link": CID}}),
    "banner is a blob without a link to raw bytes": profile(banner={**BLOB, "ref": RAW}),
    "extra holds an integer beyond 2^53": post(extra=[{"deep": 2**53}]),
    "embed holds an integer beyond 2^53": post(embed={"$type": "x", "deep": -(2**53)}),
    "extra is a name that makes the AppView's reader throw": post(extra=[{"__proto__": {}}]),
    "reply.__proto__ is a name that makes the AppView's reader throw": post(
        reply={"__proto__": 1, "root": {"uri": URI, "cid": CID}, "parent": {"uri": URI, "cid": CID}}
    ),
}


@pytest.mark.parametrize("detail", INVALID)
def test_a_record_is_refused_because(detail: str) -> None:
    assert broken_rule(INVALID[detail]) == detail


def test_a_record_without_a_type_is_refused() -> None:
    assert broken_rule({"text": "x", "createdAt": NOW}, "app.bsky.feed.post") == "record lacks $type"


def test_a_record_of_another_type_is_refused() -> None:
    assert broken_rule(like(), "app.bsky.feed.repost") == "$type is not app.bsky.feed.repost"


def test_a_link_is_not_an_object_even_where_nothing_is_required() -> None:
    assert broken_rule({"$link": CID}, "app.bsky.actor.profile") == "record is no object"


@pytest.mark.parametrize("base64", ["?", "A", "AAAA=A"])
def test_bytes_are_base64(base64: str) -> None:
    key = {"$type": "com.germnetwork.declaration", "version": "1.0.0", "currentKey": {"$bytes": base64}}
    assert broken_rule(key) == "currentKey is no bytes"


def test_the_chat_declaration_is_kept_unseen() -> None:
    assert broken_rule({"allowIncoming": 5}, "chat.bsky.actor.declaration") is None


def test_every_lexicon_of_a_record_compiles() -> None:
    documents = [json.loads(file.read_text()) for file in LEXICONS.glob("*.json")]
    records = [document["id"] for document in documents if document["defs"].get("main", {}).get("type") == "record"]
    assert len(records) == 19
    for nsid in records:
        assert broken_rule({}, nsid) is not None


def test_a_collection_without_a_lexicon_has_no_validator() -> None:
    with pytest.raises(KeyError):
        validator("com.example.thing")


def demo_check() -> Callable[[Any], None]:
    return Lexicons([json.loads((DATA / "record-lexicon.json").read_text())]).check("example.lexicon.record")


def demo_records(name: str) -> list[tuple[str, dict[str, Any]]]:
    """The vectors, with blobs that refer to raw bytes: theirs refer to DAG-CBOR, which no AppView takes."""
    cases = json.loads((DATA / name).read_text().replace("bafyrei", "bafkrei"))
    return [(case["name"], case["data"]) for case in cases]


@pytest.mark.parametrize(("name", "record"), demo_records("record-data-valid.json"))
def test_record_data_is_valid(name: str, record: dict[str, Any]) -> None:
    demo_check()(record)


@pytest.mark.parametrize(("name", "record"), demo_records("record-data-invalid.json"))
def test_record_data_is_invalid(name: str, record: dict[str, Any]) -> None:
    *_, wrong = record
    with pytest.raises(Broken) as broken:
        demo_check()(record if name == "missing required field" else {"integer": 1, **record})
    assert (broken.value.path or ["$type"])[-1] == wrong


def test_bytes_are_measured_decoded() -> None:
    record = {"$type": "example.lexicon.record", "integer": 1}
    demo_check()({**record, "sizeBytes": {"$bytes": "A" * 27}})
    with pytest.raises(Broken, match="has 21 bytes"):
        demo_check()({**record, "sizeBytes": {"$bytes": "A" * 28}})


def test_the_number_one_is_not_true() -> None:
    with pytest.raises(Broken):
        demo_check()({"$type": "example.lexicon.record", "integer": 1, "boolean": 1})


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("plain", 5),
        ("line\r\nbreak", 10),
        ("e\u0301", 1),
        (FAMILY, 1),
        ("🇩🇪🇫🇷", 2),
        ("नमस्ते", 3),  # a conjunct is one
        ("অ্যাপ", 3),  # but a vowel does not begin one
        ("각", 1),
    ],
)
def test_graphemes_are_counted_as_unicode_does(text: str, count: int) -> None:
    assert graphemes(text) == count
