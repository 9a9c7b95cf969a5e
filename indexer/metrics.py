"""What the indexer tells Prometheus. Everything is there from the start, at 0."""

import time
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from common.events import (
    SEQ_BACKFILL,
    AccountEvent,
    CreateEvent,
    DeleteEvent,
    IdentityEvent,
    LabelEvent,
    RecordEvent,
    RepoEvent,
    StreamEvent,
    UpdateEvent,
)
from common.progress import Progress
from common.stream_gauges import StreamSample
from indexer.batch import Item
from indexer.database import Applied
from indexer.records import HANDLERS
from indexer.refusals import Verdict

EVENTS = Counter("indexer_events_processed_total", "Record events applied (creates, updates and deletes).")
OF_REPOS = Counter(
    "indexer_repo_level_events_total",
    "Events about whole repos, applied: commits seen without records (repo), account and identity events.",
    ["kind"],
)
KINDS: dict[type[StreamEvent], Counter] = {
    CreateEvent: Counter("indexer_create_events_total", "Create events applied."),
    UpdateEvent: Counter("indexer_update_events_total", "Update events applied."),
    DeleteEvent: Counter("indexer_delete_events_total", "Delete events applied."),
    RepoEvent: OF_REPOS.labels("repo"),
    AccountEvent: OF_REPOS.labels("account"),
    IdentityEvent: OF_REPOS.labels("identity"),
}
TYPES = {
    name: Counter(f"indexer_{name}_events_total", f"Creates of the type {name} applied.")
    for name in ("post", "like", "repost", "follow")
}
ERRORS_TOTAL = Counter("indexer_errors_total", "The data's errors (invalid records, dead letters) and unexpected ones.")
UNEXPECTED = Counter("indexer_unexpected_errors_total", "Errors that are ours or the servers': outages, conflicts.")
ACK_FAILURES = Counter("indexer_ack_failures_total", "Acks that failed after the commit, and were tried again.")
DB_WRITES = Counter("indexer_db_writes_total", "Rows changed in Postgres, committed.")
PENDING = Gauge("indexer_pending_messages", "Entries delivered to the indexers and not yet acked, all streams.")
ACTIVE_TASKS = Gauge("indexer_active_tasks", "Batches being applied now.")
LABELS = Counter("indexer_labels_processed_total", "Labels taken from label_live.")

OUTCOME_NAMES = (
    *("written", "lifted", "deleted", "stale", "superseded", "unknown_collection"),
    *("invalid_record", "foreign_subject", "not_storable", "future_rev"),
)
OUTCOMES = Counter(
    "indexer_outcomes_total",
    "What became of each record event; with refused_by_postgres in the dead letters this sums to the events read.",
    ["outcome"],
)
DEAD_LETTER_REASONS = ("bad_entry", "not_storable", "refused_by_postgres")
DEAD_LETTERS = Counter("indexer_dead_letters_total", "Entries put into the table dead_letter.", ["reason"])
BATCH_SECONDS = Histogram("indexer_batch_duration_seconds", "A batch from read to ack.", ["stream"])
LAST_EVENT = Gauge("indexer_last_committed_event_timestamp_seconds", "Time of the newest event committed.", ["stream"])
FRESHNESS = Histogram(
    "indexer_freshness_seconds",
    "Of live events: from the time that the relay gives an event to its committed row.",
    ["stream"],
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600),
)
LAST_COMMIT = Gauge("indexer_last_commit_timestamp_seconds", "Unix time of the newest commit.", ["stream"])
POOL = Gauge(
    "indexer_db_pool_connections",
    "Connections to Postgres: busy, idle in the pool, or not opened yet; together as many as this process may open.",
    ["state"],
)
ACCOUNT_TASKS = Counter(
    "indexer_account_tasks_total",
    "What is done for accounts off the hot path: handles looked up, deletions checked, repos of those that came back"
    " queued to be fetched again; by how it ended.",
    ["kind", "result"],
)
ACCOUNT_TASK_RESULTS = {
    "handle": ("verified", "unverified", "failed"),
    "deletion": ("removed", "still_hosted", "overtaken", "failed"),
    "resync": ("queued",),
}

# a stream has entries that nobody takes, or a batch in hand that gets no further
PROGRESS = Progress(
    work=("indexer_active_tasks", "sluice_stream_group_lag"),
    done=("indexer_batch_duration_seconds_count", "indexer_dead_letters_total"),
    patience_seconds=300.0,
)

_DATA_FAULTS = ("invalid_record", "foreign_subject", "not_storable", "future_rev")

for _outcome in OUTCOME_NAMES:
    OUTCOMES.labels(_outcome)
for _reason in DEAD_LETTER_REASONS:
    DEAD_LETTERS.labels(_reason)
for _kind, _results in ACCOUNT_TASK_RESULTS.items():
    for _result in _results:
        ACCOUNT_TASKS.labels(_kind, _result)


def batch_timer(stream: str) -> AbstractContextManager[Any]:
    return BATCH_SECONDS.labels(stream).time()


def count_applied(stream: str, items: Sequence[Item], applied: Applied) -> None:
    """After the commit of a batch, once for all its events."""
    events = [item.event for item in items if isinstance(item.event, StreamEvent)]
    for kind, number in Tally(map(type, events)).items():
        KINDS[kind].inc(number)
    records = [event for event in events if isinstance(event, RecordEvent)]
    EVENTS.inc(len(records))
    made = (HANDLERS[e.collection].metric for e in records if isinstance(e, CreateEvent) and e.collection in HANDLERS)
    for name, number in Tally(made).items():
        if name in TYPES:
            TYPES[name].inc(number)
    for outcome, number in applied.outcomes.items():
        OUTCOMES.labels(outcome).inc(number)
    faults = sum(applied.outcomes.get(name, 0) for name in _DATA_FAULTS)
    ERRORS_TOTAL.inc(faults)
    if unstorable := applied.outcomes.get("not_storable", 0):
        DEAD_LETTERS.labels("not_storable").inc(unstorable)
    DB_WRITES.inc(applied.rows)
    _show_times(stream, events)


def _show_times(stream: str, events: Sequence[StreamEvent]) -> None:
    """Freshness is that of what is new: whole repos and resyncs have another pace."""
    now = time.time()
    LAST_COMMIT.labels(stream).set(now)
    if newest := max((event.time for event in events), default=None):
        LAST_EVENT.labels(stream).set(datetime.fromisoformat(newest).timestamp())
    fresh = FRESHNESS.labels(stream)
    for moment, number in Tally(event.time for event in events if event.seq != SEQ_BACKFILL).items():
        delay = max(0.0, now - datetime.fromisoformat(moment).timestamp())
        for _ in range(number):
            fresh.observe(delay)


def count_labels(stream: str, events: Sequence[LabelEvent], rows: int) -> None:
    LABELS.inc(sum(len(event.labels) for event in events))
    LAST_COMMIT.labels(stream).set_to_current_time()
    DB_WRITES.inc(rows)


def count_refusal(judgement: Verdict) -> None:
    """Postgres did not take a batch. That it holds a culprit is counted when the culprit is buried."""
    if judgement is not Verdict.HALVE:
        UNEXPECTED.inc()
        ERRORS_TOTAL.inc()


def count_dead_letter(reason: str) -> None:
    DEAD_LETTERS.labels(reason).inc()
    ERRORS_TOTAL.inc()


def show_pending(samples: Mapping[str, StreamSample]) -> None:
    PENDING.set(sum(sample.pending for sample in samples.values()))
