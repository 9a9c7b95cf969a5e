"""The backfiller's board: how far is the backfill, what fails, who holds it up."""

from ops.boards.panels import (
    OWN,
    Board,
    Panel,
    Query,
    Row,
    graph,
    number,
    per_second,
    process_row,
    quantile,
)

EACH = "{{instance}}"

PROGRESS = Row(
    "Progress",
    (
        number("Waiting", "Jobs that no backfiller has been given.", f"max(backfiller_repos_waiting{{{OWN}}})"),
        number("In hand", "Jobs of all backfillers together.", f"sum(backfiller_repos_running{{{OWN}}})"),
        number(
            "Done in",
            "At the pace of the last 15 minutes; 0 while the queue does not shrink.",
            'max(stream_group:sluice_stream_group_drain:seconds{stream="repo_backfill"}) or vector(0)',
            unit="s",
        ),
        number("Parked", "Jobs that wait for their next try.", f"sum(backfiller_retry_queue_length{{{OWN}}})"),
        number(
            "Parking full",
            "1 while as many jobs are parked as may be, so that no others are taken.",
            f"max(backfiller_parking_full{{{OWN}}})",
            steps=((None, "green"), (1, "orange")),
        ),
        graph(
            "Repos",
            "Processed, of each backfiller.",
            per_second("backfiller_repos_processed_total", "instance"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Jobs finished, by how",
            "A repo that is gone is finished as well.",
            per_second("backfiller_repo_outcomes_total", "outcome"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Records",
            "Sent to the indexer; unreadable ones as absent.",
            per_second("backfiller_records_extracted_total", legend="sent"),
            per_second("backfiller_records_unreadable_total", legend="unreadable"),
            unit="cps",
        ),
    ),
)

FAILURES = Row(
    "Failures",
    (
        graph(
            "Failed tries, retries, given up",
            "A try that fails is repeated, until the repo is given up.",
            per_second("backfiller_repos_failed_total", legend="failed"),
            per_second("backfiller_retries_attempted_total", legend="will be retried"),
            per_second("backfiller_repos_dead_lettered_total", legend="given up"),
            unit="cps",
        ),
        graph(
            "By kind",
            "Not fetched, damaged, or not what was signed.",
            per_second("backfiller_car_fetch_errors_total", legend="fetch"),
            per_second("backfiller_car_parse_errors_total", legend="parse"),
            per_second("backfiller_verification_errors_total", legend="verification"),
            unit="cps",
        ),
        graph(
            "By reason", "Tries that failed.", per_second("backfiller_failures_by_reason_total", "reason"), unit="cps"
        ),
        graph(
            "Put off",
            "Jobs parked through no fault of theirs, without using up a try.",
            per_second("backfiller_deferrals_total", "reason"),
            unit="cps",
        ),
        graph(
            "Given up, of what came to an end",
            "The objective is 1 % in 7 days.",
            Query("service:backfiller_repos_dead_lettered:ratio_rate1h or vector(0)", "1 hour"),
            Query("service:backfiller_repos_dead_lettered:ratio_rate6h or vector(0)", "6 hours"),
            unit="percentunit",
        ),
        graph(
            "Hosts left alone",
            "PDS hosts that asked for a rest (ratelimited), and those that did not answer (down).",
            Query(f"max by (state) (backfiller_hosts_left_alone{{{OWN}}})", "{{state}}"),
        ),
    ),
)

REPOS = Row(
    "Repos",
    (
        graph(
            "Time for a try, by how it ended",
            "Half, and the slowest of a hundred.",
            quantile(0.5, "backfiller_repo_duration_seconds", "end"),
            quantile(0.99, "backfiller_repo_duration_seconds", "end"),
            unit="s",
        ),
        graph(
            "Identities",
            "Looked up, by where the answer was.",
            per_second("sluice_identity_lookups_total", "result", where=f'service="backfiller",{OWN}'),
            unit="cps",
        ),
    ),
)

OUTPUT = Row(
    "Output",
    (
        graph(
            "Records not yet indexed",
            "Entries in the output, and the mark at which jobs wait.",
            Query(f"max(backfiller_output_stream_length{{{OWN}}})", "entries"),
            Query('max(sluice_stream_high_water{stream="firehose_backfill"})', "mark"),
            width=6,
        ),
        Panel(
            "Waiting for room",
            "While the output is full.",
            (Query(f"backfiller_backpressure_active{{{OWN}}}", EACH),),
            "bool_yes_no",
            "state-timeline",
            width=6,
            steps=((None, "green"), (1, "orange")),
        ),
        graph(
            "Time spent waiting",
            "Backfillers that wait, on average.",
            per_second("sluice_backpressure_seconds_total", "stream", where=f'service="backfiller",{OWN}'),
            width=6,
        ),
        graph(
            "Bytes in hand",
            "Of repos downloaded and not yet all on the output.",
            Query(f"backfiller_bytes_in_hand{{{OWN}}}", "{{where}} {{instance}}"),
            unit="bytes",
            width=6,
        ),
    ),
)

BOARD = Board(
    "sluice-backfiller",
    "Sluice: backfiller",
    "How far the backfill is, what fails, and who holds it up.",
    (PROGRESS, FAILURES, REPOS, OUTPUT, process_row("backfiller")),
    service="backfiller",
)
