"""The indexer's board: how fresh is what readers see, what waits, what is refused, where the time goes."""

from ops.boards.panels import OWN, Board, Query, Row, graph, in_interval, number, per_second, process_row, quantile

EACH = "{{instance}}"
MINE = 'stream!~"repo_backfill.*"'

FRESHNESS = Row(
    "Freshness",
    (
        number(
            "Age of live data",
            "How old the newest live row is.",
            "pipeline:live_data_age:seconds",
            unit="s",
            steps=((None, "green"), (60, "orange"), (300, "red")),
        ),
        number(
            "Late events",
            "Share of the last hour's live events that took more than 30 s. The promise is 1 % in 30 days.",
            "slo:indexer_freshness_late:ratio_rate1h",
            unit="percentunit",
            steps=((None, "green"), (0.01, "orange"), (0.144, "red")),
        ),
        number(
            "Fresh, of the last day",
            "Share of the time in which the newest live row was younger than 60 s.",
            "avg_over_time(pipeline:live_data_fresh:bool[1d])",
            unit="percentunit",
            steps=((None, "red"), (0.995, "green")),
        ),
        number("Batches in hand", "Being applied now, by all indexers.", f"sum(indexer_active_tasks{{{OWN}}})"),
        number(
            "In hand", "Entries delivered and not yet acked, all streams.", f"max(indexer_pending_messages{{{OWN}}})"
        ),
        number(
            "Errors that are ours",
            "In an hour: outages, conflicts, refusals.",
            f"sum(increase(indexer_unexpected_errors_total{{{OWN}}}[1h]))",
            steps=((None, "green"), (1, "orange")),
        ),
        graph(
            "Live event to row",
            "From the relay's time to the commit.",
            *(quantile(share, "indexer_freshness_seconds", "stream") for share in (0.5, 0.99)),
            unit="s",
        ),
        graph(
            "How fast the allowance is used up",
            "1: exactly within the month. 14.4 wakes somebody.",
            *(Query(f"slo:indexer_freshness_late:ratio_rate{window} / 0.01", window) for window in ("5m", "1h", "6h")),
        ),
        graph(
            "Since the last commit",
            "By stream.",
            Query(f"time() - max by (stream) (indexer_last_commit_timestamp_seconds{{{OWN}}})", "{{stream}}"),
            unit="s",
        ),
    ),
)

BACKLOG = Row(
    "Backlog",
    (
        graph(
            "Undelivered",
            "Entries that no indexer has been given.",
            Query(f"stream_group:sluice_stream_group_lag:max{{{MINE}}}", "{{stream}}"),
            width=6,
        ),
        graph(
            "Age of what waits",
            "Of the oldest such entry.",
            Query(f"max by (stream) (sluice_stream_group_lag_seconds{{{MINE}}})", "{{stream}}"),
            unit="s",
            width=6,
        ),
        graph(
            "In hand",
            "Delivered and not yet acked.",
            Query(f"stream_group:sluice_stream_group_pending:max{{{MINE}}}", "{{stream}}"),
            width=6,
        ),
        graph(
            "Age of the oldest in hand",
            "While hardly anything is undelivered, minutes mean that an entry is stuck.",
            Query(f"max by (stream) (sluice_stream_group_oldest_pending_age_seconds{{{MINE}}})", "{{stream}}"),
            unit="s",
            width=6,
        ),
    ),
)

THROUGHPUT = Row(
    "Throughput",
    (
        graph(
            "Record events",
            "Applied, by each indexer.",
            per_second("indexer_events_processed_total", "instance"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "By operation",
            "Applied.",
            *(per_second(f"indexer_{kind}_events_total", legend=kind) for kind in ("create", "update", "delete")),
            per_second("indexer_repo_level_events_total", "kind"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Creates, by type",
            "The main types.",
            *(per_second(f"indexer_{kind}_events_total", legend=kind) for kind in ("post", "like", "repost", "follow")),
            unit="cps",
            stacked=True,
        ),
        graph(
            "What became of them",
            "Stale and superseded ones change nothing, and are expected while backfilling.",
            per_second("indexer_outcomes_total", "outcome"),
            unit="cps",
        ),
        graph(
            "Rows",
            "Changed in Postgres, committed.",
            per_second("indexer_db_writes_total", "instance"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Labels",
            "Taken from the stream.",
            per_second("indexer_labels_processed_total", legend="labels"),
            unit="cps",
        ),
        graph(
            "Time for a batch",
            "From read to commit.",
            quantile(0.5, "indexer_batch_duration_seconds", "stream"),
            quantile(0.99, "indexer_batch_duration_seconds", "stream"),
            unit="s",
        ),
        graph(
            "Batches", "Finished, by stream.", per_second("indexer_batch_duration_seconds_count", "stream"), unit="cps"
        ),
        graph(
            "Handles and accounts",
            "Handles looked up, by result; deletions checked, repos queued to be fetched again.",
            per_second("indexer_account_tasks_total", "kind, result"),
            unit="cps",
        ),
    ),
)

ERRORS = Row(
    "Errors",
    (
        graph(
            "Errors",
            "Unexpected: ours, or the servers'. The others are the data's.",
            per_second("indexer_unexpected_errors_total", legend="unexpected"),
            per_second("indexer_errors_total", legend="all"),
            unit="cps",
        ),
        graph("Buried", "Entries put into the table dead_letter.", in_interval("indexer_dead_letters_total", "reason")),
        graph(
            "Acks that failed",
            "After the commit; they were tried again.",
            in_interval("indexer_ack_failures_total", legend="acks"),
        ),
    ),
)

POSTGRES = Row(
    "Postgres",
    (
        graph(
            "Connections",
            "Of each indexer. Hardly any idle or unopened: its pool is the limit.",
            Query(f"indexer_db_pool_connections{{{OWN}}}", f"{{{{state}}}} {EACH}"),
            width=12,
        ),
        graph(
            "Servers answer",
            "Time that the newest look at Redis and Postgres took; no line while there is no answer.",
            Query(f"sluice_dependency_round_trip_seconds{{{OWN}}}", "{{dependency}} {{instance}}"),
            unit="s",
            width=12,
        ),
    ),
)

BOARD = Board(
    "sluice-indexer",
    "Sluice: indexer",
    "How fresh is what readers see, what waits, what is refused, and where the time goes.",
    (FRESHNESS, BACKLOG, THROUGHPUT, ERRORS, POSTGRES, process_row("indexer")),
    service="indexer",
)
