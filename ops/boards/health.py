"""The upper half of the overview: is the pipeline well?"""

from ops.boards.panels import RED_ABOVE_0, Panel, Query, Row, number, quantile, states

DAEMONS = 'service=~"ingester|backfiller|indexer"'

HEALTH = Row(
    "Health now",
    (
        number(
            "Daemons up",
            "Share of the daemons that Prometheus can scrape.",
            f"avg(up{{{DAEMONS}}})",
            unit="percentunit",
            steps=((None, "red"), (1, "green")),
            width=3,
        ),
        number(
            "Age of live data",
            "How old the newest live row is: what a reader of the tables notices.",
            "pipeline:live_data_age:seconds",
            unit="s",
            steps=((None, "green"), (60, "orange"), (300, "red")),
            width=3,
        ),
        number(
            "Freshness p99",
            "From the relay's time of a live event to its committed row.",
            quantile(0.99, "indexer_freshness_seconds", where='stream="firehose_live"').expr,
            unit="s",
            steps=((None, "green"), (30, "orange"), (300, "red")),
            width=3,
        ),
        number(
            "Freshness allowance left",
            "Of the month's 1 % of events that may be later than 30 s. Below 0 the promise is broken.",
            "1 - avg_over_time(slo:indexer_freshness_late:ratio_rate1h[30d]) / 0.01",
            unit="percentunit",
            steps=((None, "red"), (0, "orange"), (0.25, "green")),
            width=3,
        ),
        number(
            "Alerts firing",
            "Critical and warning.",
            'count(ALERTS{alertstate="firing",severity=~"critical|warning"}) or vector(0)',
            steps=RED_ABOVE_0,
            width=3,
        ),
        number(
            "Redis and Postgres",
            "0 while a daemon gets no answer from Redis or Postgres: what the boards say of streams is then missing.",
            "min(sluice_dependency_up)",
            steps=((None, "red"), (1, "green")),
            width=3,
        ),
        number(
            "Waiting for room",
            "1 while a writer waits for room in a stream. The pipeline protects itself; nothing is lost.",
            'max({__name__=~"(ingester|backfiller)_backpressure_active"})',
            steps=((None, "green"), (1, "orange")),
            width=3,
        ),
        number(
            "Backfill done in",
            "At the pace of the last 15 minutes; 0 while the queue does not shrink.",
            'max(stream_group:sluice_stream_group_drain:seconds{stream="repo_backfill"}) or vector(0)',
            unit="s",
            width=3,
        ),
    ),
)


UPTIME = Row(
    "Service uptime",
    (
        states(
            "Up",
            "Whether Prometheus could scrape each daemon.",
            Query(f"up{{{DAEMONS}}}", "{{service}} {{instance}}"),
            width=12,
        ),
        Panel(
            "Uptime",
            "Since the process started.",
            (Query(f"time() - process_start_time_seconds{{{DAEMONS}}}", "{{service}} {{instance}}"),),
            "s",
            "bargauge",
            width=6,
        ),
        Panel(
            "Builds",
            "Which version and commit runs where.",
            (Query("max by (service, instance, version, commit, python) (sluice_build_info)"),),
            "short",
            "table",
            width=6,
        ),
    ),
)
