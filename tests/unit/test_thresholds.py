"""Limits of alerts, judged by what has been measured."""

import pytest

from sluice.thresholds import FAR, KEEP, NOT_SEEN, REACHED, Seen, Watched, judged, limits, rounded_up


@pytest.mark.parametrize(
    ("usual", "suggestion", "advice"),
    [
        (None, None, NOT_SEEN),
        (0.0, None, KEEP),
        (60.0, None, KEEP),
        (100.0, None, KEEP),
        (101.0, 500.0, REACHED),
        (5.0, None, KEEP),
        (4.9, 10.0, FAR),
        (0.0004, 0.001, FAR),
    ],
)
def test_a_limit_belongs_above_what_is_usual_and_not_far_above(
    usual: float | None, suggestion: float | None, advice: str
) -> None:
    found = judged(Watched("Alert", "measure", 100.0), Seen(usual, usual, usual))
    assert (found.suggestion, found.advice) == (suggestion, advice)


@pytest.mark.parametrize(
    ("value", "limit"),
    [(1, 1), (1.1, 2), (2, 2), (3, 5), (5.1, 10), (99, 100), (0.03, 0.05), (0.0011, 0.002), (7e6, 1e7)],
)
def test_a_limit_is_one_that_a_person_can_remember(value: float, limit: float) -> None:
    assert rounded_up(value) == limit


def test_only_alerts_that_say_what_they_measure_have_a_limit() -> None:
    rules = [
        {"name": "Measured", "annotations": {"measure": "up", "limit": "> 0.5"}},
        {"name": "Event", "annotations": {"summary": "it happened"}},
        {"name": "Foreign"},
    ]
    assert list(limits({"groups": [{"rules": rules}]})) == [Watched("Measured", "up", 0.5)]
