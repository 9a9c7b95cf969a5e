"""Identifiers and times: what is one, and what is read from it."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.syntax import (
    authority_of,
    collection_of,
    is_did,
    is_tid,
    record_uri,
    split_path,
    tid_at,
    tid_microseconds,
    utc_text,
)
from tests.refusals import refusal

VECTORS = Path(__file__).parents[1] / "data" / "lexicon" / "syntax"
DID = "did:plc:2xgcmecbl6b4k4rt2hbzdufd"
UTC_TIMES = st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC))
NEWEST = 1 << 53  # microseconds: the year 2255, where TIDs end


def vectors(name: str) -> list[str]:
    lines = (VECTORS / f"{name}.txt").read_text().split("\n")
    return [line for line in lines if line and not line.startswith("#")]


def test_every_valid_did_is_one_and_no_invalid_is() -> None:
    assert [text for text in vectors("did_syntax_valid") if not is_did(text)] == []
    assert [text for text in vectors("did_syntax_invalid") if is_did(text)] == []


def test_a_did_has_an_end() -> None:
    assert is_did("did:plc:" + "a" * 2040)
    assert not is_did("did:plc:" + "a" * 2041)
    assert not is_did(DID + "\n")


def test_every_valid_tid_is_one_and_no_invalid_is() -> None:
    assert [text for text in vectors("tid_syntax_valid") if not is_tid(text)] == []
    assert [text for text in vectors("tid_syntax_invalid") if is_tid(text)] == []
    assert not is_tid("3jzfcijpj2z2a\n")


def test_a_path_is_a_collection_and_a_key() -> None:
    assert split_path("app.bsky.feed.post/3jzfcijpj2z2a") == ("app.bsky.feed.post", "3jzfcijpj2z2a")
    for collection in vectors("nsid_syntax_valid"):
        assert split_path(f"{collection}/self") == (collection, "self")
    for rkey in vectors("recordkey_syntax_valid"):
        assert split_path(f"app.bsky.feed.post/{rkey}") == ("app.bsky.feed.post", rkey)


# the spec's own regular expression, which is what servers use, takes segments of 64 characters
LENIENT = {"com.oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo.foo"}


def test_a_path_with_a_wrong_part_is_refused() -> None:
    accepted = {nsid for nsid in vectors("nsid_syntax_invalid") if refusal(split_path, f"{nsid}/self") is None}
    assert accepted <= LENIENT
    for rkey in vectors("recordkey_syntax_invalid"):
        assert refusal(split_path, f"app.bsky.feed.post/{rkey}") == "bad_path", rkey


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "self",
        "app.bsky.feed.post",
        "app.bsky.feed.post/",
        "/self",
        "app.bsky.feed.post/a/b",
        "a.b.c/.",
        "a.b.c/..",
    ],
)
def test_half_a_path_is_refused(path: str) -> None:
    assert refusal(split_path, path) == "bad_path"


def test_the_parts_of_a_uri_are_found_again() -> None:
    uri = record_uri(DID, "app.bsky.feed.post", "3k")
    assert uri == f"at://{DID}/app.bsky.feed.post/3k"
    assert (authority_of(uri), collection_of(uri)) == (DID, "app.bsky.feed.post")
    assert (authority_of(f"at://{DID}"), collection_of(f"at://{DID}")) == (DID, "")
    assert authority_of("at://alice.test/app.bsky.feed.post/3k") == "alice.test"


@pytest.mark.parametrize("text", ["", "at:", DID, "https://example.com/a/b/c", f"AT://{DID}/a.b.c/d"])
def test_what_is_no_uri_has_no_authority(text: str) -> None:
    assert authority_of(text) == ""


def test_a_tid_says_when_it_was_made() -> None:
    made = datetime.fromtimestamp(tid_microseconds("3jzfcijpj2z2a") / 1e6, UTC)
    assert made.isoformat(timespec="seconds") == "2023-06-30T15:03:01+00:00"


@given(st.integers(0, NEWEST - 1), st.integers(0, NEWEST - 1))
def test_tids_sort_as_the_times_they_were_made_at(first: int, second: int) -> None:
    assert is_tid(tid_at(first))
    assert tid_microseconds(tid_at(first)) == first
    assert (first < second) == (tid_at(first) < tid_at(second))


@given(st.integers(0, NEWEST - 2), st.integers(0, 1023))
def test_every_tid_of_a_moment_is_covered_by_its_largest(moment: int, clock: int) -> None:
    value, text = moment << 10 | clock, ""
    for _ in range(13):
        text = "234567abcdefghijklmnopqrstuvwxyz"[value & 31] + text
        value >>= 5
    assert text <= tid_at(moment) < tid_at(moment + 1)


def test_a_time_is_written_in_utc_with_milliseconds() -> None:
    assert utc_text(datetime(2025, 3, 1, 12, 0, 0, 7999, UTC)) == "2025-03-01T12:00:00.007Z"
    assert utc_text(datetime(325, 6, 19, tzinfo=UTC)) == "0325-06-19T00:00:00.000Z"
    tokyo = timezone(timedelta(hours=9))
    assert utc_text(datetime(2025, 3, 1, 6, 30, tzinfo=tokyo)) == "2025-02-28T21:30:00.000Z"


@given(UTC_TIMES, UTC_TIMES)
def test_times_sort_as_text(first: datetime, second: datetime) -> None:
    if first <= second:
        assert utc_text(first) <= utc_text(second)
