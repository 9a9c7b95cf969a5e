"""Identifiers and times in records: what the AppView takes, and the one form that times are brought to."""

import json
from pathlib import Path

import pytest

from common.errors import BadInput
from indexer.lexicon_formats import FORMATS, normalised

DATA = Path(__file__).parents[1] / "data" / "lexicon"
TIMES = json.loads((DATA / "observed.json").read_text())["times"]
DID = "did:plc:2xgcmecbl6b4k4rt2hbzdufd"
URI = f"at://{DID}/app.bsky.feed.post/3l5exampleaaa"
RAW = "bafkreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"

# Where the AppView's reading of a format is not that of the vectors: it wants CIDs in their canonical base, whatever
# their version, and it takes only word characters in the scheme of a URI, but any length.
ONLY_VECTORS_ACCEPT = {
    "content-type:text/plan",
    "microsoft.windows.camera:thing",
    "zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7",
    "zdj7WhuEjrB52m1BisYCtmjH1hSKa7yZ3jEZ9JcXaFRD51wVz",
    "z7x3CtScH765HvShXT",
    "mBcDxtdWx0aWhhc2g+",
    "7134036155352661643226414134664076",
    "f017012202c5f688262e0ece8569aa6f94d60aad55ca8d9d83734e4a7430d0cff6588ec2b",
}
ONLY_VECTORS_REFUSE = {"QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR"}
VECTOR_NAMES = {"at-identifier": "atidentifier", "at-uri": "aturi", "record-key": "recordkey"}


def vectors(format_name: str, kind: str) -> set[str]:
    file = DATA / "syntax" / f"{VECTOR_NAMES.get(format_name, format_name)}_{kind}.txt"
    lines = file.read_text().split("\n") if file.exists() else []
    return {line for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize("format_name", FORMATS)
def test_valid_syntax_is_accepted(format_name: str) -> None:
    texts = vectors(format_name, "syntax_valid")
    assert texts
    assert {text for text in texts if not FORMATS[format_name](text)} == texts & ONLY_VECTORS_ACCEPT


@pytest.mark.parametrize("format_name", FORMATS)
def test_invalid_syntax_is_refused(format_name: str) -> None:
    texts = vectors(format_name, "syntax_invalid") | vectors(format_name, "parse_invalid")
    assert texts
    accepted = {text for text in texts if FORMATS[format_name](text)}
    assert {text for text in accepted if len(text) < 8192} == texts & ONLY_VECTORS_REFUSE


@pytest.mark.parametrize(
    ("format_name", "text"),
    [
        ("uri", "a:\u00a0b"),
        ("uri", "a:b\ufeff"),
        ("uri", "é:b"),
        ("at-uri", f"{URI}#"),
        ("at-uri", f"{URI}#/%ff"),
        ("at-uri", f"{URI}?"),
        ("at-uri", f"{URI}\n"),
        ("at-uri", f"{URI}#/{'a' * 8192}"),
        ("at-uri", f"at://{DID}/app.bsky.feed.post/.."),
        ("nsid", "a" * 64 + ".b.c"),
        ("cid", RAW[:-1] + "b"),
        ("cid", RAW + "="),
        ("cid", "bafkqaa3bmi"),  # the digest is shorter than it says
        ("cid", "bafkqaza" + "a" * 160),  # a digest of 100 bytes, as it says
        ("cid", "QmfZy5bvk7a3DQAjCbGNtmrPXWkyVvPrdnZMyBZ5q5ieKH"),
        ("datetime", "9999-12-31T23:59:59-00:01"),
        ("datetime", "2024-01-00T00:00:00Z"),
        ("datetime", "2024-01-01T00:00:00." + "0" * 44 + "Z"),
        ("language", "abcdefghi"),
    ],
)
def test_a_near_miss_of_a_format_is_refused(format_name: str, text: str) -> None:
    assert not FORMATS[format_name](text)


@pytest.mark.parametrize(
    ("format_name", "text"),
    [
        ("uri", "a:b\x1c\x85"),
        ("at-uri", f"{URI}#/a/%C3%A9"),
        ("cid", "bafkqaaa"),
        ("cid", "QmNLei78zWmzUdbeRB3CiUfAizWUrbeeZh5K1rhAQKCh51"),
        ("datetime", "0000-01-01T00:00:00-00:01"),
        ("language", "en-GB-oed"),
        ("language", "de-1996-1901-a-bb-b-aa-x-a-a"),
    ],
)
def test_an_odd_text_of_a_format_is_accepted(format_name: str, text: str) -> None:
    assert FORMATS[format_name](text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *TIMES.items(),
        ("2024-10-01T12:00:00.123Z", "2024-10-01T12:00:00.123Z"),
        ("2024-10-01T12:00:00.1239999Z", "2024-10-01T12:00:00.123Z"),
        ("2024-10-01T12:00:00.12+00:00", "2024-10-01T12:00:00.120Z"),
        ("2024-02-30T00:00:00Z", "2024-03-01T00:00:00.000Z"),
        ("2023-02-29T00:00:00.5Z", "2023-03-01T00:00:00.500Z"),
        ("2024-04-31T23:00:00-02:30", "2024-05-02T01:30:00.000Z"),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
        ("0000-02-30T00:00:00Z", "0000-03-01T00:00:00.000Z"),
        ("0001-01-01T00:00:00+00:01", "0000-12-31T23:59:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ("1900-02-29T12:00:00Z", "1900-03-01T12:00:00.000Z"),
    ],
)
def test_a_time_is_brought_to_utc_and_cut_to_milliseconds(text: str, expected: str) -> None:
    assert normalised(text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00+00:01"])
def test_what_is_no_time_has_no_normal_form(text: str) -> None:
    with pytest.raises(BadInput, match="bad_time"):
        normalised(text)
