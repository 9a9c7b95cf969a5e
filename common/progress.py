"""Whether a daemon gets on with its work, and when each of its metrics last moved: judged from what it exports."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import Metric

OTHERS = "process"
# what the metrics of a daemon are about, by how their names begin; the daemon's own go under its name
_CATEGORIES = {
    "sluice_stream_": "streams",
    "sluice_dependency_": "dependencies",
    "sluice_redis_": "dependencies",
    "sluice_": OTHERS,
    "process_": OTHERS,
    "python_": OTHERS,
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How to see that a daemon stalls: none of `done` rises for `patience_seconds` while one of `work` is above 0.

    Both are names of samples, summed over their labels. Waiting that others can end is no stall: for room in a
    stream, for Redis, for Postgres.
    """

    work: tuple[str, ...]
    done: tuple[str, ...]
    patience_seconds: float


_PRESSURE = ("ingester_backpressure_active", "backfiller_backpressure_active")


class ProgressWatch:
    """Fed with every family now and then; knows since when nothing got done, and when each family last moved."""

    def __init__(self, progress: Progress, now: float) -> None:
        self._progress = progress
        self._done: float | None = None
        self._fine_at = now
        self._totals: dict[str, float] = {}
        self.moved_at: dict[str, float | None] = {}

    def observe(self, families: Iterable[Metric], now: float) -> None:
        samples: dict[str, float] = {}
        away = False
        for family in families:
            total = 0.0
            for sample in family.samples:
                samples[sample.name] = samples.get(sample.name, 0.0) + sample.value
                total += sample.value
                away = away or (sample.name == "sluice_dependency_up" and not sample.value)
            self._note(family.name, total, now)
        done = sum(samples.get(name, 0.0) for name in self._progress.done)
        waits = away or any(samples.get(name) for name in _PRESSURE)
        if waits or done != self._done or not any(samples.get(name) for name in self._progress.work):
            self._fine_at = now
        self._done = done

    def _note(self, name: str, total: float, now: float) -> None:
        if name in self._totals and self._totals[name] == total:
            return
        self.moved_at[name] = now if name in self._totals else None
        self._totals[name] = total

    def complaint(self, now: float) -> str:
        """What is wrong, or nothing."""
        seconds = now - self._fine_at
        if seconds <= self._progress.patience_seconds:
            return ""
        return f"work waits, and nothing got done for {seconds:.0f} s; the log says what it was doing"

    def categories(self) -> Mapping[str, Mapping[str, float | None]]:
        """Category -> family -> when it last moved, None if not since the watch began."""
        found: dict[str, dict[str, float | None]] = {}
        for name in sorted(self.moved_at):
            found.setdefault(category_of(name), {})[name] = self.moved_at[name]
        return found


def category_of(family: str) -> str:
    for start, category in _CATEGORIES.items():
        if family.startswith(start):
            return category
    return family.partition("_")[0]
