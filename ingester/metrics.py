"""What the ingester counts. The unlabelled names are a contract with existing dashboards.

The account: received = written + filtered + dropped + in memory, at any moment (ingester/accounts.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from prometheus_client import Counter, Gauge

from common.progress import Progress
from common.stream_gauges import StreamSample
from common.streams import FIREHOSE_LIVE, LABEL_LIVE
from ingester.chain import QUEUED_FOR, RESULTS
from ingester.framing import Proof

_ACCOUNT = (
    "ingester_received_total = ingester_written_total + ingester_firehose_filtered_operations_total"
    " + ingester_dropped_total + ingester_events_in_memory, over all sources."
)

RECEIVED = Counter(
    "ingester_received",
    "Units that came. Firehose: operations, identity, account and sync events, marks of commits that were filtered"
    f" away, frames dropped whole. Labeler: labels. Listing: rows of listRepos. {_ACCOUNT}",
    ["source"],
)
WRITTEN = Counter("ingester_written", f"Units that Redis has acknowledged. {_ACCOUNT}", ["source"])
FIREHOSE_EVENTS = Counter("ingester_firehose_events", "Events made of firehose frames, after the filter.")
FILTERED = Counter("ingester_firehose_filtered_operations", "Operations in collections that are not ours.")
STREAM_EVENTS = Counter("ingester_stream_events", "Firehose events that Redis has acknowledged.")
LABELER_EVENTS = Counter("ingester_labeler_events", "Labels that labelers' frames brought.")
ERRORS = Counter("ingester_errors", "Troubles with hosts and cursors; ingester_errors_by_reason has the reasons.")
BACKPRESSURE = Gauge("ingester_backpressure_active", "1 while writing to any stream waits for room, else 0.")
CONNECTIONS = Gauge("ingester_websocket_connections", "Open websocket connections.")
IN_MEMORY = Gauge("ingester_events_in_memory", "Units received and not yet acknowledged by Redis, of all sources.")

LENGTHS = {
    FIREHOSE_LIVE: Gauge("ingester_firehose_live_length", "Entries in the stream firehose_live."),
    LABEL_LIVE: Gauge("ingester_label_live_length", "Entries in the stream label_live."),
}

FRAMES = Counter("ingester_frames", "Websocket messages, by type.", ["source", "kind"])
DROPPED = Counter("ingester_dropped", f"Units that were of no use, by reason. {_ACCOUNT}", ["source", "reason"])
ERRORS_BY_REASON = Counter("ingester_errors_by_reason", "ingester_errors by reason.", ["source", "reason"])
CURSOR = Gauge("ingester_upstream_cursor", "Sequence number that the stored cursor stands for.", ["source", "host"])
RECEIVED_SEQ = Gauge("ingester_upstream_received_seq", "Sequence number of the newest batch.", ["source", "host"])
CONNECTED = Gauge("ingester_upstream_connected", "1 while the connection to this host is open.", ["source", "host"])
LAST_FRAME = Gauge(
    "ingester_upstream_last_received_timestamp_seconds", "Unix time of the newest batch.", ["source", "host"]
)
LAST_EVENT = Gauge(
    "ingester_upstream_last_event_timestamp_seconds", "Event time of the newest batch.", ["source", "host"]
)
GAPS = Counter(
    "ingester_gaps", "Gaps written into the ledger: what a source skipped or could not say.", ["source", "kind"]
)
GAPS_UNCLOSED = Gauge(
    "ingester_gaps_unclosed", "Gaps of the ledger that have not been made good; all ingesters share it.", ["source"]
)
PAUSED = Gauge(
    "ingester_source_paused",
    "1 while people have paused this source, else 0. The labelers set by DID are called by-did-1 and so on.",
    ["source", "host"],
)


CHAIN = Counter(
    "ingester_chain",
    "Frames about a repo, by what they were to what was known of it; docs/architecture.md has the results.",
    ["result"],
)
RESYNCS = Counter(
    "ingester_resyncs_queued",
    "Repos put on repo_backfill_high, by why we are no longer in step with them.",
    ["reason"],
)
REPOS_KNOWN = Gauge("ingester_repos_known", "Repos of which something is known.")
REPOS_DESYNCHRONISED = Gauge(
    "ingester_repos_desynchronised", "Repos that we are out of step with: queued for a backfill, or given up by it."
)
PROVEN = Counter("ingester_commits", "Commits and syncs by what was proven of them; docs/architecture.md.", ["result"])
for _proof in Proof:
    PROVEN.labels(_proof)
for _result in sorted(set(RESULTS.values())):
    CHAIN.labels(_result)
for _reason in QUEUED_FOR:
    RESYNCS.labels(_reason)


WORKER_DIED = "worker_died"


def count_worker_death() -> None:
    ERRORS.inc()
    ERRORS_BY_REASON.labels("firehose", WORKER_DIED).inc()


def count_judged(results: Mapping[str, int], queued: Mapping[str, int]) -> None:
    for result, frames in results.items():
        CHAIN.labels(result).inc(frames)
    for reason, repos in queued.items():
        RESYNCS.labels(reason).inc(repos)


# events come in and go nowhere
PROGRESS = Progress(
    work=("ingester_events_in_memory",),
    done=(*("ingester_written_total", "ingester_firehose_filtered_operations_total", "ingester_dropped_total"),),
    patience_seconds=120.0,
)


class HostMeter:
    """What is shown of one host that a subscription reads."""

    def __init__(self, source: str, host: str) -> None:
        self._cursor = CURSOR.labels(source, host)
        self._received_seq = RECEIVED_SEQ.labels(source, host)
        self._connected = CONNECTED.labels(source, host)
        self._last_frame = LAST_FRAME.labels(source, host)
        self._last_event = LAST_EVENT.labels(source, host)
        self.is_connected = False

    @contextmanager
    def connection(self) -> Iterator[None]:
        CONNECTIONS.inc()
        self._connected.set(1)
        self.is_connected = True
        try:
            yield
        finally:
            self._connected.set(0)
            self.is_connected = False
            CONNECTIONS.dec()

    def received(self, seq: int, time: str) -> None:
        self._received_seq.set(seq)
        self._last_frame.set_to_current_time()
        if time:
            moment = datetime.fromisoformat(time)
            self._last_event.set((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())

    def saved(self, seq: int) -> None:
        self._cursor.set(seq)


class Pressure:
    """Shows who waits for room; several writers may, each for itself."""

    def __init__(self) -> None:
        self._waiting: set[object] = set()

    def of_writer(self) -> Callable[[str, bool, float], None]:
        """What a writer's Room reports to."""
        writer = object()

        def report(stream: str, active: bool, seconds: float) -> None:
            (self._waiting.add if active else self._waiting.discard)(writer)
            BACKPRESSURE.set(1 if self._waiting else 0)

        return report


def show_lengths(samples: Mapping[str, StreamSample]) -> None:
    for stream, gauge in LENGTHS.items():
        gauge.set(samples[stream].length)
