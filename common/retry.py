"""How long to wait before the next try."""

import random


class Backoff:
    """Exponential with full jitter: the n-th wait is random between 0 and first * 2**n, at most `most` seconds.

    The jitter keeps many clients that failed together from coming back together.
    """

    def __init__(self, first_seconds: float = 0.2, most_seconds: float = 15.0) -> None:
        self.first_seconds = first_seconds
        self.most_seconds = most_seconds
        self.failures = 0

    def next_seconds(self) -> float:
        self.failures += 1
        return jittered(self.failures, self.first_seconds, self.most_seconds)

    def reset(self) -> None:
        self.failures = 0


def jittered(failures: int, first_seconds: float, most_seconds: float) -> float:
    """The wait after this many failures in a row (1 is the first)."""
    ceiling = min(most_seconds, first_seconds * 2.0 ** min(failures - 1, 40))
    return random.uniform(0.0, ceiling)  # noqa: S311 - spreads load; nobody gains by guessing it
