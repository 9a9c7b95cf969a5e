"""The lower half of the overview: how much goes through, what waits, what fails, and what it costs."""

from ops.boards.health import DAEMONS
from ops.boards.panels import Panel, Query, Row, graph, per_second, quantile


def _all(metric: str, legend: str) -> Query:
    return per_second(metric, legend=legend, where="")


THROUGHPUT = Row(
    "Event throughput",
    (
        graph(
            "Ingester",
            "Received, and acknowledged by Redis. Over a few minutes they are equal, unless the filter takes some.",
            _all("ingester_firehose_events_total", "received"),
            _all("ingester_stream_events_total", "written"),
            _all("ingester_labeler_events_total", "labels"),
            unit="cps",
            width=6,
        ),
        graph(
            "Backfiller",
            "Repos fetched, and tries that failed.",
            _all("backfiller_repos_processed_total", "processed"),
            _all("backfiller_repos_failed_total", "failed"),
            unit="cps",
            width=6,
        ),
        graph(
            "Indexer",
            "Record events applied, live and backfill together.",
            _all("indexer_events_processed_total", "events"),
            unit="cps",
            width=6,
        ),
        graph(
            "Rows written",
            "Rows changed in Postgres, committed.",
            _all("indexer_db_writes_total", "rows"),
            unit="cps",
            width=6,
        ),
    ),
)


QUEUES = Row(
    "Queues",
    (
        graph(
            "Stream lengths",
            "Work not yet done: finished entries are deleted.",
            Query("stream:sluice_stream_length:max", "{{stream}}"),
            width=6,
        ),
        graph(
            "Undelivered",
            "Entries that no consumer has been given.",
            Query("stream_group:sluice_stream_group_lag:max", "{{stream}}"),
            width=6,
        ),
        graph(
            "Age of what waits",
            "Of the oldest entry that no consumer has been given.",
            Query("max by (stream) (sluice_stream_group_lag_seconds)", "{{stream}}"),
            unit="s",
            width=6,
        ),
        graph(
            "In hand",
            "Delivered and not yet finished.",
            Query("stream_group:sluice_stream_group_pending:max", "{{stream}}"),
            width=6,
        ),
    ),
)


ERRORS = Row(
    "Errors",
    (
        graph(
            "Errors by daemon",
            "Of the ingester and indexer all; of the backfiller the tries that failed.",
            _all("ingester_errors_total", "ingester"),
            _all("backfiller_repos_failed_total", "backfiller"),
            _all("indexer_errors_total", "indexer"),
            unit="cps",
        ),
        graph(
            "Given up",
            "Repos in the dead letters of the backfiller, events in those of the indexer: expect few.",
            Query("sum(increase(backfiller_repos_dead_lettered_total[$__rate_interval]))", "repos"),
            Query("sum by (reason) (increase(indexer_dead_letters_total[$__rate_interval]))", "events: {{reason}}"),
        ),
        graph(
            "Share of tries that fail",
            "Of the backfiller.",
            Query(
                "service:backfiller_repos_failed:rate15m / (service:backfiller_tries:rate15m > 0)"
                " or 0 * service:backfiller_tries:rate15m",
                "failed",
            ),
            unit="percentunit",
        ),
    ),
)


LATENCY = Row(
    "Latency",
    (
        graph(
            "Live event to row",
            "From the relay's time to the commit.",
            *(
                quantile(share, "indexer_freshness_seconds", where='stream="firehose_live"')
                for share in (0.5, 0.95, 0.99)
            ),
            unit="s",
        ),
        graph(
            "A batch of the indexer",
            "From read to commit.",
            *(quantile(share, "indexer_batch_duration_seconds", where="") for share in (0.5, 0.95, 0.99)),
            unit="s",
        ),
        graph(
            "A repo of the backfiller",
            "From the start of a try to its end.",
            *(quantile(share, "backfiller_repo_duration_seconds", where="") for share in (0.5, 0.95, 0.99)),
            unit="s",
        ),
    ),
)


RESOURCES = Row(
    "Resources",
    (
        graph(
            "Memory",
            "Resident, of each daemon.",
            Query(f"process_resident_memory_bytes{{{DAEMONS}}}", "{{instance}}"),
            unit="bytes",
            width=6,
        ),
        graph(
            "CPU",
            "Cores in use, of each daemon.",
            Query(f"rate(process_cpu_seconds_total{{{DAEMONS}}}[$__rate_interval])", "{{instance}}"),
            width=6,
        ),
        graph(
            "Redis memory",
            "Writers wait at 80 % of what is left of the limit beside what never drains: what is known of each repo.",
            Query('max(sluice_redis_memory_bytes{kind="used"})', "used"),
            Query('max(sluice_redis_memory_bytes{kind="standing"})', "never drains"),
            Query('max(sluice_redis_memory_bytes{kind="max"})', "limit"),
            unit="bytes",
            width=6,
        ),
        graph(
            "Connections to Postgres",
            "Of all indexers. Hardly any idle or unopened: their pools are the limit.",
            Query("sum by (state) (indexer_db_pool_connections)", "{{state}}"),
            width=6,
        ),
        graph(
            "Servers answer",
            "Time that the newest look at Redis and Postgres took; no line while there is no answer.",
            Query("max by (dependency) (sluice_dependency_round_trip_seconds)", "{{dependency}}"),
            unit="s",
            width=6,
        ),
    ),
)


BACKPRESSURE = Row(
    "Backpressure",
    (
        Panel(
            "How full the streams are",
            "Of the mark at which writers wait.",
            (Query("stream:sluice_stream_fill:ratio", "{{stream}}"),),
            "percentunit",
            "bargauge",
            steps=((None, "green"), (0.8, "orange"), (1, "red")),
        ),
        graph(
            "Time spent waiting",
            "Writers that wait, on average.",
            per_second("sluice_backpressure_seconds_total", "service, stream", where=""),
        ),
        graph(
            "Until the backlog is gone",
            "At the pace of the last 15 minutes; only while it shrinks.",
            Query(
                "stream_group:sluice_stream_group_drain:seconds or 0 * stream_group:sluice_stream_group_lag:max",
                "{{stream}}",
            ),
            unit="s",
        ),
    ),
)
