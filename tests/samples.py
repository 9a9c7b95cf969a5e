"""What the metrics of this process say."""

from collections.abc import Callable

from prometheus_client import REGISTRY


def sample(name: str, **labels: str) -> float:
    """0 for one that has not been touched."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def moved(name: str, **labels: str) -> Callable[[], float]:
    """How far it has moved since."""
    before = sample(name, **labels)
    return lambda: sample(name, **labels) - before
