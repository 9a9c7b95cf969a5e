"""How long to wait: never longer than allowed, and rarely the same twice."""

from hypothesis import given
from hypothesis import strategies as st

from common.retry import Backoff, jittered


@given(st.integers(1, 10_000), st.floats(0.001, 10), st.floats(0.001, 3600))
def test_a_wait_is_below_its_ceiling(failures: int, first: float, most: float) -> None:
    ceiling = min(most, first * 2 ** min(failures - 1, 100))
    assert 0 <= jittered(failures, first, most) <= ceiling


def test_ceilings_double_up_to_the_most() -> None:
    longest = [max(jittered(failures, 1.0, 8.0) for _ in range(500)) for failures in range(1, 7)]
    for seen, ceiling in zip(longest, [1, 2, 4, 8, 8, 8], strict=True):
        assert ceiling * 0.9 < seen <= ceiling


def test_clients_that_failed_together_come_back_apart() -> None:
    waits = {jittered(5, 0.2, 15.0) for _ in range(50)}
    assert len(waits) == 50
    assert max(waits) - min(waits) > 1


def test_a_success_starts_over() -> None:
    backoff = Backoff(1.0, 1000.0)
    for _ in range(10):
        backoff.next_seconds()
    assert backoff.failures == 10
    backoff.reset()
    assert backoff.failures == 0
    assert max(Backoff(1.0, 1000.0).next_seconds() for _ in range(100)) <= 1.0
    assert backoff.next_seconds() <= 1.0


def test_failing_for_years_is_no_error() -> None:
    backoff = Backoff()
    backoff.failures = 10**9
    assert 0 <= backoff.next_seconds() <= backoff.most_seconds
