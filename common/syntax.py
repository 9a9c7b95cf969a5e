"""Identifiers and times of the AT Protocol, parsed once, here (specs: did, nsid, tid, record-key, at-uri-scheme)."""

import re
from datetime import UTC, datetime
from functools import lru_cache

from common.errors import BadInput

DID = re.compile(r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]")
NSID = re.compile(
    r"[a-zA-Z]([a-zA-Z0-9-]{0,62}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,62}[a-zA-Z0-9])?)+(\.[a-zA-Z][a-zA-Z0-9]{0,62})"
)
RECORD_KEY = re.compile(r"[A-Za-z0-9._:~-]{1,512}")
TID = re.compile(r"[234567abcdefghij][234567abcdefghijklmnopqrstuvwxyz]{12}")
_TID_LETTERS = "234567abcdefghijklmnopqrstuvwxyz"
_TID_DIGITS = str.maketrans(_TID_LETTERS, "0123456789abcdefghijklmnopqrstuv")


def is_did(text: str) -> bool:
    return len(text) <= 2048 and DID.fullmatch(text) is not None


def is_tid(text: str) -> bool:
    return TID.fullmatch(text) is not None


@lru_cache(4096)  # few collections make most records
def is_nsid(text: str) -> bool:
    return len(text) <= 317 and NSID.fullmatch(text) is not None


def split_path(path: str) -> tuple[str, str]:
    """`collection/rkey` of a repo path. Raises BadInput("bad_path")."""
    collection, slash, rkey = path.partition("/")
    if not slash or not is_nsid(collection):
        raise BadInput("bad_path", path[:80])
    if not is_record_key(rkey):
        raise BadInput("bad_path", path[:80])
    return collection, rkey


def is_record_key(text: str) -> bool:
    return RECORD_KEY.fullmatch(text) is not None and text not in (".", "..")


def record_uri(did: str, collection: str, rkey: str) -> str:
    return f"at://{did}/{collection}/{rkey}"


def authority_of(uri: str) -> str:
    """The DID (or handle) that an at:// URI belongs to; empty if the text is no such URI."""
    return uri[5:].partition("/")[0] if uri.startswith("at://") else ""


def collection_of(uri: str) -> str:
    """The collection of an at:// URI of a record; empty if there is none."""
    parts = uri.split("/", 4)
    return parts[3] if len(parts) > 3 else ""


def tid_value(tid: str) -> int:
    """The 64 bits of a TID, which sort as it does. It must be valid."""
    return int(tid.translate(_TID_DIGITS), 32)


def tid_of(value: int) -> str:
    return "".join(_TID_LETTERS[value >> shift & 31] for shift in range(60, -1, -5))


def tid_microseconds(tid: str) -> int:
    """When a TID was made, in microseconds since 1970 (spec: tid). The TID must be valid."""
    return tid_value(tid) >> 10


FUTURE_SECONDS = 300  # how far a rev or an event may be ahead of our clock (spec: sync, commit validation)


def tid_at(microseconds: int) -> str:
    """The largest TID of this microsecond: every TID made up to then sorts at or below it."""
    return tid_of(microseconds << 10 | 0x3FF)


LAST_TID = "j" + "z" * 12


def utc_text(moment: datetime) -> str:
    """The one textual form of times that we make ourselves: UTC, milliseconds, `Z`. It sorts as text."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")  # strftime leaves out the zeros of early years
    return text.removesuffix("+00:00") + "Z"
