"""The ingester's board: are we connected, do we keep up, is anything lost on the way into Redis."""

from ops.boards.panels import (
    OWN,
    RED_ABOVE_0,
    Board,
    Panel,
    Query,
    Row,
    graph,
    in_interval,
    number,
    per_second,
    process_row,
    states,
)

EACH_HOST = "{{source}} {{host}}"

UPSTREAM = Row(
    "Upstream",
    (
        number(
            "Connections",
            "Open websocket connections.",
            f"sum(ingester_websocket_connections{{{OWN}}})",
            steps=((None, "red"), (1, "green")),
        ),
        number(
            "Firehose is late by",
            "How old the newest event was when it came: above 60 s a replay, or a relay that is behind.",
            'max(source_host:ingester_upstream_late:seconds{source="firehose"})',
            unit="s",
            steps=((None, "green"), (60, "orange"), (600, "red")),
        ),
        number(
            "Silent for",
            "Since the newest frame of the firehose.",
            'max(source_host:ingester_upstream_quiet:seconds{source="firehose"})',
            unit="s",
            steps=((None, "green"), (120, "orange")),
        ),
        number(
            "Waiting for room",
            "1 while a writer waits for room in a stream.",
            f"max(ingester_backpressure_active{{{OWN}}})",
            steps=((None, "green"), (1, "orange")),
        ),
        number(
            "In memory", "Units received and not yet acknowledged by Redis.", f"sum(ingester_events_in_memory{{{OWN}}})"
        ),
        number(
            "Unaccounted",
            "Received less written, filtered, dropped and in memory. More than a moment's few is a fault.",
            f"sum(instance:ingester_units_unaccounted:sum{{{OWN}}})",
            steps=((None, "green"), (1000, "red")),
        ),
        states(
            "Connected",
            "Of each host that is read.",
            Query(f"ingester_upstream_connected{{{OWN}}}", EACH_HOST),
            width=12,
        ),
        graph(
            "Frames",
            "Websocket messages by type.",
            per_second("ingester_frames_total", "source, kind"),
            unit="cps",
            width=12,
        ),
    ),
)

POSITION = Row(
    "Position",
    (
        graph(
            "Late, and silent",
            "Late: the newest event's age when it came. Silent: since it came.",
            Query("source_host:ingester_upstream_late:seconds", f"late {EACH_HOST}"),
            Query("source_host:ingester_upstream_quiet:seconds", f"silent {EACH_HOST}"),
            unit="s",
        ),
        graph(
            "Advance",
            "How fast the sequence number that was received and the stored cursor rise: the same, in the long run.",
            Query(f"deriv(ingester_upstream_received_seq{{{OWN}}}[5m])", f"received {EACH_HOST}"),
            Query(f"deriv(ingester_upstream_cursor{{{OWN}}}[5m])", f"stored {EACH_HOST}"),
            unit="cps",
        ),
        graph(
            "Not yet stored",
            "Received sequence number less the stored cursor: what would be read again after a crash.",
            Query(f"ingester_upstream_received_seq{{{OWN}}} - ingester_upstream_cursor{{{OWN}}}", EACH_HOST),
        ),
        graph(
            "Gaps (expect 0)",
            "What a source skipped or could not say: found, and not yet made good.",
            in_interval("ingester_gaps_total", "source, kind", "found {{source}} {{kind}}"),
            Query(f"max by (source) (ingester_gaps_unclosed{{{OWN}}})", "open {{source}}"),
            width=12,
        ),
        graph(
            "Dropped, by reason",
            "Units that were of no use to anybody. Frames that could not be read are kept: sluice dead list.",
            per_second("ingester_dropped_total", "source, reason"),
            unit="cps",
            width=12,
        ),
    ),
)

IN_STEP = Row(
    "In step with every repo",
    (
        graph(
            "Frames, by what they were to their repo",
            "Advanced: the next step. Duplicate: another relay told it before. docs/architecture.md has them all.",
            per_second("ingester_chain_total", "result"),
            unit="cps",
        ),
        graph(
            "Out of step, by why",
            "Repos queued to be fetched again because something between two of their commits is missing.",
            per_second("ingester_resyncs_queued_total", "reason"),
            unit="cps",
        ),
        graph(
            "Repos known, and out of step",
            "Out of step: queued for a backfill, or given up by it.",
            Query(f"max(ingester_repos_known{{{OWN}}})", "known"),
            Query(f"max(ingester_repos_desynchronised{{{OWN}}})", "out of step"),
        ),
        graph(
            "Commits, by what was proven of them",
            "Proven: signature and all that was done. Legacy: the signature, and that the records are in the tree.",
            per_second("ingester_commits_total", "result"),
            unit="cps",
        ),
        graph(
            "Keys, by where they were found",
            "What grows here beside what is known already is questions to directories and hosts.",
            per_second("sluice_identity_lookups_total", "result", where=f'service="ingester",{OWN}'),
            unit="cps",
        ),
        states(
            "Paused by people",
            "Sources that somebody has paused.",
            Query(f"ingester_source_paused{{{OWN}}}", EACH_HOST),
            good=0,
        ),
    ),
)

WRITING = Row(
    "Into Redis",
    (
        graph(
            "Received, and what became of it",
            "Of relays, labelers and lists of repos: received = written + filtered + dropped + in memory.",
            per_second("ingester_received_total", "source", "received {{source}}"),
            per_second("ingester_written_total", "source", "written {{source}}"),
            per_second("ingester_firehose_filtered_operations_total", legend="filtered"),
            unit="cps",
        ),
        graph(
            "Events and labels",
            "Events of the firehose after the filter, and written; labels received.",
            per_second("ingester_firehose_events_total", legend="events"),
            per_second("ingester_stream_events_total", legend="events written"),
            per_second("ingester_labeler_events_total", legend="labels"),
            unit="cps",
        ),
        graph(
            "Stream lengths",
            "As the ingester sees them.",
            *(Query(f"max(ingester_{stream}_length{{{OWN}}})", stream) for stream in ("firehose_live", "label_live")),
        ),
        Panel(
            "How full the streams are",
            "Of the mark at which writers wait.",
            (Query("stream:sluice_stream_fill:ratio", "{{stream}}"),),
            "percentunit",
            "bargauge",
            steps=((None, "green"), (0.8, "orange"), (1, "red")),
        ),
        graph(
            "Waiting for room",
            "Writers that wait, on average.",
            per_second("sluice_backpressure_seconds_total", "stream", where=f'service="ingester",{OWN}'),
        ),
    ),
)

ERRORS = Row(
    "Errors",
    (
        number(
            "Errors in an hour",
            "Troubles with hosts, cursors and worker processes.",
            f"sum(increase(ingester_errors_total{{{OWN}}}[1h]))",
            steps=RED_ABOVE_0,
        ),
        graph(
            "Errors, by reason",
            "Of the listing: pages that failed, and rows stepped over because the host fails to list them.",
            per_second("ingester_errors_by_reason_total", "source, reason"),
            unit="cps",
            width=20,
        ),
    ),
)

BOARD = Board(
    "sluice-ingester",
    "Sluice: ingester",
    "Are we connected, do we keep up, is anything lost on the way into Redis.",
    (UPSTREAM, POSITION, IN_STEP, WRITING, ERRORS, process_row("ingester")),
    service="ingester",
)
