"""What the backfiller tells Prometheus. The first eleven names are a contract with dashboards that exist."""

from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram

from backfiller.outcomes import DEFERRED, DONE, FAILURES, FINISHED, PARSING, VERIFYING
from common.progress import Progress
from common.stream_gauges import StreamSample

PROCESSED = Counter("backfiller_repos_processed", "Repos whose records are all on the output.")
FAILED = Counter("backfiller_repos_failed", "Tries that failed.")
DEAD_LETTERED = Counter("backfiller_repos_dead_lettered", "Entries moved to the dead letters.")
EXTRACTED = Counter("backfiller_records_extracted", "Records of processed repos that went to the output.")
RETRIES = Counter("backfiller_retries_attempted", "Failed tries after which another one was arranged.")
WAITING = Gauge("backfiller_repos_waiting", "Jobs in the inputs that nobody has been given yet.")
RUNNING = Gauge("backfiller_repos_running", "Jobs in hand now.")
OUTPUT_LENGTH = Gauge("backfiller_output_stream_length", "Entries in the output: records not yet indexed.")
FETCH_ERRORS = Counter("backfiller_car_fetch_errors", "Failed tries: identity not found, or repo not downloaded.")
PARSE_ERRORS = Counter("backfiller_car_parse_errors", "Failed tries: the repo is damaged or incomplete.")
VERIFICATION_ERRORS = Counter(
    "backfiller_verification_errors", "Failed tries: the repo is not the one that was signed."
)

UNREADABLE = Counter("backfiller_records_unreadable", "Records of processed repos that are no JSON, sent as absent.")
OUTCOMES = Counter("backfiller_repo_outcomes", "Jobs finished, by how.", ["outcome"])
FAILURES_BY_REASON = Counter("backfiller_failures_by_reason", "Tries that failed, by reason.", ["reason"])
DEFERRALS = Counter("backfiller_deferrals", "Jobs parked without using up a try, by reason.", ["reason"])
PARKING_FULL = Gauge("backfiller_parking_full", "1 while as many jobs are parked as may be, and no others are taken.")
PARKED = Gauge("backfiller_retry_queue_length", "Jobs parked until their next try.")
REPO_SECONDS = Histogram(
    "backfiller_repo_duration_seconds",
    "Time from the start of a try to its end.",
    ["end"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
PRESSURE = Gauge("backfiller_backpressure_active", "1 while the output is full and jobs wait for it.")
BYTES_IN_HAND = Gauge(
    "backfiller_bytes_in_hand", "Bytes of repos in memory or on disk and not yet all on the output.", ["where"]
)
HOSTS_LEFT_ALONE = Gauge(
    "backfiller_hosts_left_alone",
    "PDS hosts that are not asked for now: they asked for a rest (ratelimited), or did not answer (down).",
    ["state"],
)

# no try takes longer than its download may (app.py), so that this is long enough for all of them at once
PROGRESS = Progress(
    work=("backfiller_repos_running", "backfiller_repos_waiting"),
    done=("backfiller_repo_duration_seconds_count", "backfiller_records_extracted_total"),
    patience_seconds=1800.0,
)

ENDS = ("done", "current", "absent", "parked", "buried", "stopped")
LOST = "lost_entry"

for _outcome in (*FINISHED, LOST):
    OUTCOMES.labels(_outcome)
for _reason in (*FAILURES, "other"):
    FAILURES_BY_REASON.labels(_reason)
for _reason in DEFERRED:
    DEFERRALS.labels(_reason)
for _end in ENDS:
    REPO_SECONDS.labels(_end)


def failed(reason: str) -> None:
    """A try that failed, under the total and under its kind."""
    FAILED.inc()
    FAILURES_BY_REASON.labels(reason if reason in FAILURES else "other").inc()
    if reason in PARSING:
        PARSE_ERRORS.inc()
    elif reason in VERIFYING:
        VERIFICATION_ERRORS.inc()
    else:
        FETCH_ERRORS.inc()


def finished(outcome: str) -> None:
    OUTCOMES.labels(outcome).inc()
    if outcome == DONE:
        PROCESSED.inc()


def parked(reason: str, *, deferred: bool) -> None:
    """`deferred`: through no fault of the repo, so that no try was used up."""
    if deferred:
        DEFERRALS.labels(reason).inc()
        return
    failed(reason)
    RETRIES.inc()


def unpacked(records: int, unreadable: int) -> None:
    """Of one repo; the unreadable are among the records."""
    EXTRACTED.inc(records - unreadable)
    UNREADABLE.inc(unreadable)


def sampled(input_streams: Iterable[str], firehose_stream: str, samples: Mapping[str, StreamSample]) -> None:
    WAITING.set(sum(samples[stream].lag for stream in input_streams))
    OUTPUT_LENGTH.set(samples[firehose_stream].length)
