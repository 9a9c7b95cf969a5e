"""What pages of metrics say, by the names of their samples."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]


class Samples:
    """Of one process, or of several together: the same sample of two processes is two rows."""

    def __init__(self) -> None:
        self._rows: defaultdict[str, list[tuple[Labels, float]]] = defaultdict(list)

    @classmethod
    def of(cls, page: str) -> "Samples":
        """Raises ValueError if this is no page of metrics."""
        found = cls()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                found._rows[sample.name].append((sample.labels, sample.value))
        return found

    def __add__(self, other: "Samples") -> "Samples":
        both = Samples()
        for samples in (self, other):
            for name, rows in samples._rows.items():
                both._rows[name] += rows
        return both

    def rows(self, name: str) -> Sequence[tuple[Labels, float]]:
        return self._rows.get(name, ())

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> int:
        """The total of what is counted in whole numbers; 0 of what is not there."""
        return int(self.total(name))

    def total(self, name: str) -> float:
        return sum(value for _, value in self.rows(name))

    def value(self, name: str, **labels: str) -> float | None:
        """Of the first that has these labels; None if it is not known."""
        return next((value for found, value in self.rows(name) if labels.items() <= found.items()), None)

    def by(self, name: str, label: str) -> dict[str, int]:
        """Totals by the value of this label; only what is above 0."""
        found: defaultdict[str, float] = defaultdict(float)
        for labels, value in self.rows(name):
            if label in labels:
                found[labels[label]] += value
        return {label: int(total) for label, total in found.items() if total}
