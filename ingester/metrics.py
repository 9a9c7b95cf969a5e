"""What the ingester counts. The unlabelled names are a contract with existing dashboards.

The account: received = written + filtered + dropped + in memory, at any moment (ingester/accounts.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from prometheus_client import Counter, Gauge

from common.progress import Progress
from common.stream_gauges import StreamSample
from common.streams import FIREHOSE_BACKFILL, FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL
from ingester.chain import QUEUED_FOR, RESULTS
from ingester.framing import Proof

_ACCOUNT = (
    "ingester_received_total + ingester_labeler_events_total + ingester_backfill_repos_fetched_total ="
    " ingester_stream_events_total + ingester_labels_written_total + ingester_backfill_repos_written_total"
    " + ingester_firehose_filtered_operations_total + ingester_dropped_total + ingester_events_in_memory."
)

RECEIVED = Counter(
    "ingester_received",
    "Units that firehose frames brought: operations, identity, account and sync events, marks of commits that were"
    f" filtered away, frames dropped whole. {_ACCOUNT}",
)
FIREHOSE_EVENTS = Counter("ingester_firehose_events", "Events made of firehose frames, after the filter.")
CREATES = Counter("ingester_firehose_create_events", "Create events among ingester_firehose_events.")
UPDATES = Counter("ingester_firehose_update_events", "Update events among ingester_firehose_events.")
DELETES = Counter("ingester_firehose_delete_events", "Delete events among ingester_firehose_events.")
FILTERED = Counter("ingester_firehose_filtered_operations", "Operations in collections that are not ours.")
STREAM_EVENTS = Counter("ingester_stream_events", "Firehose events that Redis has acknowledged.")
LABELER_EVENTS = Counter("ingester_labeler_events", "Labels that labelers' frames brought.")
LABELS_WRITTEN = Counter("ingester_labels_written", "Labels that Redis has acknowledged.")
REPOS_FETCHED = Counter("ingester_backfill_repos_fetched", "Rows that listRepos brought.")
REPOS_WRITTEN = Counter("ingester_backfill_repos_written", "Repos queued for backfill that Redis has acknowledged.")
FETCH_ERRORS = Counter("ingester_backfill_fetch_errors", "Failed requests for a page of listRepos.")
CURSOR_SKIPS = Counter(
    "ingester_backfill_cursor_skips", "Steps over a row that the host fails to list; each is logged with its cursors."
)
BACKFILL_COMPLETE = Gauge("ingester_backfill_complete", "1 once every configured relay has been listed to its end.")
ERRORS = Counter("ingester_errors", "Troubles with hosts and cursors; ingester_errors_by_reason has the reasons.")
BACKPRESSURE = Gauge("ingester_backpressure_active", "1 while writing to any stream waits for room, else 0.")
CONNECTIONS = Gauge("ingester_websocket_connections", "Open websocket connections.")
IN_MEMORY = Gauge("ingester_events_in_memory", "Units received and not yet acknowledged by Redis, of all sources.")

LENGTHS = {
    FIREHOSE_LIVE: Gauge("ingester_firehose_live_length", "Entries in the stream firehose_live."),
    FIREHOSE_BACKFILL: Gauge("ingester_firehose_backfill_length", "Entries in the stream firehose_backfill."),
    LABEL_LIVE: Gauge("ingester_label_live_length", "Entries in the stream label_live."),
    REPO_BACKFILL: Gauge("ingester_repo_backfill_length", "Entries in the stream repo_backfill."),
}

FRAMES = Counter("ingester_frames", "Websocket messages, by type.", ["source", "kind"])
DROPPED = Counter("ingester_dropped", f"Units that were of no use, by reason. {_ACCOUNT}", ["source", "reason"])
ERRORS_BY_REASON = Counter("ingester_errors_by_reason", "ingester_errors by reason.", ["source", "reason"])
PRESSURE_SECONDS = Counter("ingester_backpressure_seconds", "Time that writers waited for room.", ["stream"])
PRESSURE_TIMES = Counter("ingester_backpressure_activations", "Times that a writer began to wait.", ["stream"])
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
PDS_DUE = Gauge("ingester_pds_hosts_due", "PDSes whose repos are to be listed now; all ingesters share them.")
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
for _result in sorted(set(RESULTS.values())):
    CHAIN.labels(_result)
for _reason in QUEUED_FOR:
    RESYNCS.labels(_reason)


def count_judged(results: Mapping[str, int], queued: Mapping[str, int]) -> None:
    for result, frames in results.items():
        CHAIN.labels(result).inc(frames)
    for reason, repos in queued.items():
        RESYNCS.labels(reason).inc(repos)


PROVEN = Counter("ingester_commits", "Commits and syncs by what was proven of them; docs/architecture.md.", ["result"])
WORKER_DEATHS = Counter("ingester_worker_deaths", "Worker processes that died, or were ended for hanging.")
for _proof in Proof:
    PROVEN.labels(_proof)

# events come in and go nowhere
PROGRESS = Progress(
    work=("ingester_events_in_memory",),
    done=(
        *("ingester_stream_events_total", "ingester_labels_written_total", "ingester_backfill_repos_written_total"),
        *("ingester_firehose_filtered_operations_total", "ingester_dropped_total"),
    ),
    patience_seconds=120.0,
)
for _stream in LENGTHS:
    PRESSURE_SECONDS.labels(_stream)
    PRESSURE_TIMES.labels(_stream)


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
            PRESSURE_TIMES.labels(stream).inc(active and not seconds)
            PRESSURE_SECONDS.labels(stream).inc(seconds)

        return report


class Listings:
    """Shows whether every relay has been listed to its end."""

    def __init__(self, hosts: int) -> None:
        self._hosts = hosts
        self._complete: set[str] = set()

    def show(self, host: str, is_complete: bool) -> None:
        (self._complete.add if is_complete else self._complete.discard)(host)
        BACKFILL_COMPLETE.set(1 if len(self._complete) == self._hosts else 0)


def show_lengths(samples: Mapping[str, StreamSample]) -> None:
    for stream, gauge in LENGTHS.items():
        gauge.set(samples[stream].length)
