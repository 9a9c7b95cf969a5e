"""Whether the servers that a daemon needs answer, and how fast."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prometheus_client import Gauge

UP = Gauge("sluice_dependency_up", "1 while the server answers, 0 while it does not.", ["dependency"])
ROUND_TRIP = Gauge(
    "sluice_dependency_round_trip_seconds", "Time that the newest look at the server took.", ["dependency"]
)


@contextmanager
def answering(dependency: str) -> Iterator[None]:
    """Around a question to redis or postgres. How long it took is unknown while there is no answer."""
    started, answered = time.monotonic(), False
    try:
        yield
        answered = True
    finally:
        UP.labels(dependency).set(answered)
        if answered:
            ROUND_TRIP.labels(dependency).set(time.monotonic() - started)
        else:
            with suppress(KeyError):
                ROUND_TRIP.remove(dependency)
