"""The last hour, as rates and levels: what the charts show."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from sluice.flow import Flow

HOUR = 3600.0

RATES: Mapping[str, str] = {
    "received": "ingester_firehose_events_total",
    "streamed": "ingester_stream_events_total",
    "indexed": "indexer_events_processed_total",
    "rows": "indexer_db_writes_total",
    "repos": "backfiller_repos_processed_total",
    "records": "backfiller_records_extracted_total",
    "errors": "indexer_errors_total",
}
LEVELS: Mapping[str, Callable[[Flow], float | None]] = {
    "behind_seconds": Flow.behind_seconds,
    "live_waiting": lambda flow: _length(flow, "firehose_live"),
    "backfill_waiting": lambda flow: _length(flow, "firehose_backfill"),
    "repos_waiting": lambda flow: _length(flow, "repo_backfill"),
    "oldest_seconds": lambda flow: max((stream.oldest_seconds for stream in flow.streams().values()), default=None),
}
Point = Mapping[str, float | None]


class History:
    """Rates between looks, levels at them, and no more of them than an hour has."""

    def __init__(self, seconds: float = HOUR) -> None:
        self._seconds = seconds
        self._last: Flow | None = None
        self._points: deque[tuple[float, Point]] = deque()

    def add(self, flow: Flow) -> None:
        point: dict[str, float | None] = {name: level(flow) for name, level in LEVELS.items()}
        point |= rates(self._last, flow) if self._last else dict.fromkeys(RATES)
        self._points.append((flow.at, point))
        self._last = flow
        while self._points[0][0] < flow.at - self._seconds:
            self._points.popleft()

    @property
    def now(self) -> Point:
        return self._points[-1][1] if self._points else {}

    def mean(self, name: str, seconds: float) -> float | None:
        """Over the last so many seconds; None if nothing is known of them."""
        values = [point[name] for at, point in self._points if at > self._points[-1][0] - seconds]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    def series(self, after: float = 0.0) -> dict[str, Sequence[float | None]]:
        """What came after this time. All are of one length; `at` is when."""
        points = [(at, point) for at, point in self._points if at > after]
        found: dict[str, Sequence[float | None]] = {"at": [at for at, _ in points]}
        for name in (*RATES, *LEVELS):
            found[name] = [point[name] for _, point in points]
        return found


def rates(before: Flow, now: Flow) -> dict[str, float | None]:
    """Events a second. A process that was started anew begins at 0 again; one that is new or gone says nothing."""
    seconds = now.at - before.at
    return {name: sum(_risen(before, now, total)) / seconds if seconds > 0 else None for name, total in RATES.items()}


def _risen(before: Flow, now: Flow, name: str) -> Iterator[float]:
    earlier = {daemon.address: daemon for daemon in before.daemons if daemon.is_up}
    for daemon in now.daemons:
        if daemon.is_up and (then := earlier.get(daemon.address)):
            rise = daemon.samples.total(name) - then.samples.total(name)
            yield rise if rise >= 0 else daemon.samples.total(name)


def _length(flow: Flow, stream: str) -> float | None:
    found = flow.streams().get(stream)
    return found.length if found else None
