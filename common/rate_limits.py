"""What a host says about how often it may be asked: Retry-After (RFC 9110 10.2.3) and the RateLimit fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER_SECONDS = 3600.0
MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many requests are left until so many seconds from now, of `limit` in each window (0: it does not say)."""

    remaining: int
    reset_seconds: float
    limit: int = 0


def rate_limit(headers: Mapping[str, str], now: float) -> RateLimit | None:
    """None unless the host says both how many are left and until when."""
    remaining, reset = headers.get("RateLimit-Remaining", ""), headers.get("RateLimit-Reset", "")
    if not _is_number(remaining) or not _is_number(reset):
        return None
    limit = headers.get("RateLimit-Limit", "")
    most = min(int(limit), MOST) if _is_number(limit) else 0
    return RateLimit(min(int(remaining), MOST), max(_seconds_until(reset, now), 1.0), most)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The wait that a host asks for (Retry-After, or RateLimit-Reset), between 0 seconds and an hour."""
    text = headers.get("Retry-After") or headers.get("RateLimit-Reset") or ""
    if _is_number(text):
        return _seconds_until(text, now)
    try:
        return _clamped(parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 40


def _seconds_until(number: str, now: float) -> float:
    seconds = float(number)
    return _clamped(seconds - now if seconds > 1e9 else seconds)  # the reference PDS sends a Unix time


def _clamped(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
