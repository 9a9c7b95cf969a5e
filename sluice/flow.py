"""The whole pipeline at one moment, put together from what each daemon exports."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from sluice.samples import Samples

DAEMONS = ("ingester", "backfiller", "indexer")


@dataclass(frozen=True, slots=True)
class Daemon:
    """One process, by its address. `kind` is empty and `complaint` says why if it does not answer."""

    address: str
    kind: str
    complaint: str
    samples: Samples = field(default_factory=Samples)

    @property
    def is_up(self) -> bool:
        return bool(self.kind)


@dataclass(frozen=True, slots=True)
class Stream:
    """None is what nobody can say."""

    name: str
    length: int | None = None
    high_water: int | None = None
    lag: int | None = None
    lag_seconds: float | None = None
    pending: int | None = None
    oldest_pending_seconds: float | None = None

    @property
    def fill(self) -> float:
        """Share of the length at which writers wait, from 0 to 1."""
        return min(1.0, self.length / self.high_water) if self.length and self.high_water else 0.0

    @property
    def oldest_seconds(self) -> float:
        """Age of the oldest work, delivered or not."""
        return max(self.lag_seconds or 0.0, self.oldest_pending_seconds or 0.0)


@dataclass(frozen=True, slots=True)
class Flow:
    """`at` is Unix time. What several daemons know of the same thing is counted once.

    Of a recorded network it says nothing how old the events are.
    """

    at: float
    daemons: tuple[Daemon, ...]
    is_recorded: bool = False

    def total(self, name: str) -> float:
        """Over all processes."""
        return sum(daemon.samples.total(name) for daemon in self.daemons)

    def has(self, kind: str) -> bool:
        return any(daemon.kind == kind for daemon in self.daemons)

    def counts(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Over all processes, by these labels; only what is above 0."""
        found: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for daemon in self.daemons:
            for having, value in daemon.samples.rows(name):
                found[tuple(having.get(label, "") for label in labels)] += value
        return {key: value for key, value in sorted(found.items()) if value}

    def newest(self, name: str, **labels: str) -> float | None:
        values = (daemon.samples.value(name, **labels) for daemon in self.daemons)
        return max((value for value in values if value is not None), default=None)

    def streams(self) -> dict[str, Stream]:
        """By name, in the order of the flow. Each is one in Redis however many processes look at it."""
        names = {having["stream"] for daemon in self.daemons for having, _ in daemon.samples.rows(_LENGTH)}
        return {name: self._stream(name) for name in sorted(names, key=_place)}

    def _stream(self, name: str) -> Stream:
        known = {part: self.newest(f"sluice_stream_{metric}", stream=name) for part, metric in _OF_STREAM.items()}
        whole = {part: None if known[part] is None else int(known[part] or 0) for part in _WHOLE}
        return Stream(
            name, **whole, lag_seconds=known["lag_seconds"], oldest_pending_seconds=known["oldest_pending_seconds"]
        )

    def behind_seconds(self) -> float | None:
        """How old the newest live event was when its row was committed; this does not grow while nothing happens."""
        event = self.newest("indexer_last_committed_event_timestamp_seconds", stream="firehose_live")
        commit = self.newest("indexer_last_commit_timestamp_seconds", stream="firehose_live")
        return None if not event or not commit or self.is_recorded else max(0.0, commit - event)


_LENGTH = "sluice_stream_length"
_OF_STREAM = {
    "length": "length",
    "high_water": "high_water",
    "lag": "group_lag",
    "lag_seconds": "group_lag_seconds",
    "pending": "group_pending",
    "oldest_pending_seconds": "group_oldest_pending_age_seconds",
}
_WHOLE = ("length", "high_water", "lag", "pending")
_IN_ORDER = (
    *("firehose_live", "label_live", "repo_backfill_high", "repo_backfill", "firehose_backfill"),
    "repo_backfill_dlq",
)


def _place(stream: str) -> tuple[int, str]:
    return (_IN_ORDER.index(stream) if stream in _IN_ORDER else len(_IN_ORDER), stream)


def kind_of(samples: Samples) -> str:
    """Which daemon a page of metrics comes from; empty if from none of ours."""
    return next(
        (kind for kind in DAEMONS if f"{kind}_errors_total" in samples or f"{kind}_repos_running" in samples), ""
    )


def flow_of(at: float, daemons: Iterable[Daemon], *, is_recorded: bool = False) -> Flow:
    """In the order of the flow, then by address."""
    order = {kind: place for place, kind in enumerate((*DAEMONS, ""))}
    return Flow(at, tuple(sorted(daemons, key=lambda daemon: (order[daemon.kind], daemon.address))), is_recorded)
