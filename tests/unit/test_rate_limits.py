"""What hosts say of their limits: how long to wait, and how many requests are left."""

import dataclasses

import pytest

from common.rate_limits import RateLimit, rate_limit, retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "12"}, 12.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "99999999999999999999999999"}, 3600.0),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Fri, 20 Nov 2020 12:00:30 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "٣"}, None),
        ({"RateLimit-Reset": "1795176060"}, 60.0),
        ({"RateLimit-Reset": "300"}, 300.0),
    ],
)
def test_the_wait_a_host_asks_for_is_at_most_an_hour(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, 1795176000.0) == seconds  # 2026-11-20T12:00:00Z


@pytest.mark.parametrize(
    ("remaining", "reset", "limit"),
    [
        ("2999", "300", RateLimit(2999, 300.0)),
        ("0", "1795176060", RateLimit(0, 60.0)),
        ("5", "1795175000", RateLimit(5, 1.0)),
        ("9" * 39, "9" * 39, RateLimit(1_000_000, 3600.0)),
        ("9" * 5000, "300", None),
        ("many", "300", None),
        ("-1", "300", None),
        ("٣", "300", None),
        ("5", "", None),
    ],
)
def test_what_is_left_of_a_limit_is_read_if_both_numbers_are_there(
    remaining: str, reset: str, limit: RateLimit | None
) -> None:
    assert rate_limit({"RateLimit-Remaining": remaining, "RateLimit-Reset": reset}, 1795176000.0) == limit
    assert rate_limit({}, 1795176000.0) is None
    if limit:
        whole = {"RateLimit-Remaining": remaining, "RateLimit-Reset": reset, "RateLimit-Limit": "3000"}
        assert rate_limit(whole, 1795176000.0) == dataclasses.replace(limit, limit=3000)
