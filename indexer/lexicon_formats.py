"""The string formats of lexicons, as strict as the AppView is when it indexes, and the one form of createdAt.

Each `is_*` answers for any text whatever. Sources: the atproto specs of each identifier; where they leave room,
the strict checks of the AppView's own indexer.
"""

import re
from base64 import b32decode, b32encode
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import unquote_to_bytes

from common.errors import BadInput
from common.syntax import RECORD_KEY, is_did, is_tid

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_HANDLE = re.compile(rf"(?:{_LABEL}\.)+[a-zA-Z](?:[a-zA-Z0-9-]{{0,61}}[a-zA-Z0-9])?")
# common.syntax takes segments of 64 characters, as the spec's regular expression does; its prose says 63
_NSID = re.compile(rf"[a-zA-Z](?:[a-zA-Z0-9-]{{0,61}}[a-zA-Z0-9])?(?:\.{_LABEL})+\.[a-zA-Z][a-zA-Z0-9]{{0,62}}")
_URI = re.compile(
    # \w and \s of ECMAScript, which Python understands otherwise
    r"[A-Za-z0-9_]+:(?://)?[^/{0}][^{0}]*".format(
        r"\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
    )
)


def is_handle(text: str) -> bool:
    return len(text) <= 253 and _HANDLE.fullmatch(text) is not None


def is_at_identifier(text: str) -> bool:
    return is_did(text) if text.startswith("did:") else is_handle(text)


def is_nsid(text: str) -> bool:
    return len(text) <= 317 and _NSID.fullmatch(text) is not None


def is_record_key(text: str) -> bool:
    return text not in (".", "..") and RECORD_KEY.fullmatch(text) is not None


def is_uri(text: str) -> bool:
    return _URI.fullmatch(text) is not None


# what nearly every at:// URI looks like; all that it matches is valid
_COMMON_AT_URI = re.compile(
    r"at://did:plc:[a-z2-7]{24}/[a-z]{1,20}\.[a-z]{1,20}\.[a-z]{1,20}\.[a-zA-Z]{1,30}/[a-zA-Z0-9]{1,100}"
)
_AT_URI = re.compile(r"at://([^/?#]+)(?:/([^/?#]+)(?:/([^/?#]+))?)?(?:#(.*))?")
_JSON_POINTER = re.compile(r"/(?:[a-zA-Z0-9._~:@!$&')(*+,;=\[\]/-]|%[0-9A-Fa-f]{2})*")


def is_at_uri(text: str) -> bool:
    """at://authority[/collection[/rkey]][#pointer]: no trailing slash, no query; the authority may be a handle."""
    if _COMMON_AT_URI.fullmatch(text):
        return True
    match = _AT_URI.fullmatch(text) if len(text) <= 8192 else None
    if match is None:
        return False
    authority, collection, rkey, pointer = match.groups()
    return (
        is_at_identifier(authority)
        and (collection is None or is_nsid(collection))
        and (rkey is None or is_record_key(rkey))
        and (pointer is None or _is_json_pointer(pointer))
    )


def _is_json_pointer(text: str) -> bool:
    if not _JSON_POINTER.fullmatch(text):
        return False
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


_COMMON_CID = re.compile(r"baf[yk]rei[a-h][a-z2-7]{50}[aeimquy4]")  # CIDv1, dag-cbor or raw, sha-256
_RAW_CID = re.compile(r"bafkrei[a-h][a-z2-7]{50}[aeimquy4]")
_CID_V0 = re.compile(r"Qm[1-9A-HJ-NP-Za-km-z]{44}")
_BASE58 = {digit: value for value, digit in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}


def is_raw_cid(text: str) -> bool:
    """The only CID that a blob may have: version 1, raw, sha-256, in base32."""
    return _RAW_CID.fullmatch(text) is not None


def is_cid(text: str) -> bool:
    """A CID of any codec and hash in its canonical text: base32 for version 1, base58btc for version 0."""
    if _COMMON_CID.fullmatch(text):
        return True
    if _CID_V0.fullmatch(text):
        return _base58_number(text) >> 256 == 0x1220
    if len(text) > 128 or not re.fullmatch(r"b[a-z2-7]+", text):
        return False
    digits = text[1:].upper()
    if len(digits) % 8 not in (0, 2, 4, 5, 7):
        return False
    binary = b32decode(digits + "=" * (-len(digits) % 8))
    return b32encode(binary).decode().rstrip("=") == digits and _is_cid_v1(binary)


def _base58_number(text: str) -> int:
    number = 0
    for digit in text:
        number = number * 58 + _BASE58[digit]
    return number


_CID_V1 = re.compile(rb"\x01([\x80-\xff]{0,7}[\x00-\x7f])([\x80-\xff]{0,7}[\x00-\x7f])([\x00-\x7f])(.*)", re.DOTALL)


def _is_cid_v1(binary: bytes) -> bool:
    """Version 1, then codec, hash function and digest length as varints, then exactly the digest."""
    match = _CID_V1.fullmatch(binary)
    return match is not None and len(match[4]) == match[3][0]


_LANGUAGE = re.compile(
    r"[a-z]{2,3}(?:-[A-Za-z]{3}){0,3}(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*)"
    r"(?P<extensions>(?:-[0-9A-WY-Za-wy-z](?:-[A-Za-z0-9]{2,8})+)*)"
    r"(?:-[xX](?:-[A-Za-z0-9]{1,8})+)?"
    r"|[xX](?:-[A-Za-z0-9]{1,8})+"
    r"|en-GB-oed|i-(?:ami|bnn|default|enochian|hak|klingon|lux|mingo|navajo|pwn|tao|tay|tsu)"
    r"|sgn-(?:BE-FR|BE-NL|CH-DE)"
)


def is_language(text: str) -> bool:
    """Well-formed BCP 47 (RFC 5646 2.1), lowercase primary subtag, no variant or extension twice."""
    match = _LANGUAGE.fullmatch(text)
    if match is None:
        return False
    variants, extensions = match["variants"], match["extensions"]
    if not variants and not extensions:
        return True
    once = variants.lower().split("-")[1:]
    singletons = [part for part in (extensions or "").lower().split("-") if len(part) == 1]
    return len(set(once)) == len(once) and len(set(singletons)) == len(singletons)


_DATETIME = re.compile(
    r"([0-9]{4})-(0[1-9]|1[012])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]+))?"
    r"(Z|(?!-00:00)[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


def is_datetime(text: str) -> bool:
    """RFC 3339 and ISO 8601 at once, at most 64 characters; in UTC the year must still have four digits."""
    match = _parsed(text)
    if match is None:
        return False
    return text[-1] == "Z" or text[:4] not in ("0000", "9999") or _in_utc(match) is not None


def normalised(text: str) -> str:
    """The same moment as `YYYY-MM-DDTHH:MM:SS.sssZ`: UTC, cut (not rounded) to milliseconds.

    A day that its month lacks runs into the next month (February 30 is March 1 or 2), as in ECMAScript.
    Raises BadInput("bad_time") for what is no atproto datetime.
    """
    match = _parsed(text)
    if match is None:
        raise BadInput("bad_time", text[:80])
    if match[8] == "Z" and match[3] <= "28":
        return text if len(text) == 24 else f"{text[:19]}.{_milliseconds(match)}Z"
    in_utc = _in_utc(match)
    if in_utc is None:
        raise BadInput("bad_time", text)
    return in_utc


def _parsed(text: str) -> re.Match[str] | None:
    return _DATETIME.fullmatch(text) if len(text) <= 64 else None


def _milliseconds(match: re.Match[str]) -> str:
    return (match[7] or "")[:3].ljust(3, "0")


def _in_utc(match: re.Match[str]) -> str | None:
    """The normal form by way of the calendar; None if the year leaves 0000..9999."""
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    # the calendar repeats every 400 years, and Python's own lacks the year 0
    cycles, year_of_cycle = divmod(year, 400)
    moment = datetime(2000 + year_of_cycle, month, 1, hour, minute, second)
    moment += timedelta(days=day - 1, minutes=-_offset_minutes(match[8]))
    utc_year = moment.year - 2000 + 400 * cycles
    if not 0 <= utc_year <= 9999:
        return None
    return f"{utc_year:04d}{moment:-%m-%dT%H:%M:%S}.{_milliseconds(match)}Z"


def _offset_minutes(offset: str) -> int:
    """How far local time is ahead of UTC."""
    if offset == "Z":
        return 0
    minutes = int(offset[1:3]) * 60 + int(offset[4:6])
    return minutes if offset[0] == "+" else -minutes


FORMATS: dict[str, Callable[[str], bool]] = {
    "at-identifier": is_at_identifier,
    "at-uri": is_at_uri,
    "cid": is_cid,
    "datetime": is_datetime,
    "did": is_did,
    "handle": is_handle,
    "language": is_language,
    "nsid": is_nsid,
    "record-key": is_record_key,
    "tid": is_tid,
    "uri": is_uri,
}
