"""The alerts of ops/rules/indexer.yml: the indexer."""

from tests.monitoring.cases.series import BACKFILLER, CLOCK, GROUP, INDEXER, INDEXER2, LIVE, Case

_LAG = f"sluice_stream_group_lag{{{INDEXER},{GROUP}}}"
_OLDEST = f"sluice_stream_group_oldest_pending_age_seconds{{{INDEXER},{GROUP}}}"
_EVENTS, _ERRORS = f"indexer_events_processed_total{{{INDEXER}}}", f"indexer_errors_total{{{INDEXER}}}"
_BATCHES = f"indexer_batch_duration_seconds_count{{{INDEXER},{LIVE}}}"
CASES = {
    "IndexerConsumerGroupLag": Case(
        fires={f"indexer_pending_messages{{{INDEXER}}}": "100001x120"},
        # two indexers see the same entries: they are not to be added up
        quiet={
            f"indexer_pending_messages{{{INDEXER}}}": "100000x120",
            f"indexer_pending_messages{{{INDEXER2}}}": "100000x120",
        },
    ),
    "IndexerLagGrowing": Case(fires={_LAG: "2000+50x120"}, quiet={_LAG: "90000-100x120"}, after="50m"),
    "IndexerLagGrowing: repos to fetch": Case(
        fires={_LAG: "2000+50x120"},
        quiet={f'sluice_stream_group_lag{{{BACKFILLER},stream="repo_backfill",group="g"}}': "2000+50x120"},
    ),
    "IndexerStalled": Case(
        fires={f"sluice_stream_length{{{INDEXER},{LIVE}}}": "0x30 9x90", _BATCHES: "0+5x30 150x90"},
        # one of two indexers does all the work
        quiet={
            f"sluice_stream_length{{{INDEXER},{LIVE}}}": "9x120",
            f"sluice_stream_length{{{INDEXER2},{LIVE}}}": "9x120",
            _BATCHES: "150x120",
            f"indexer_batch_duration_seconds_count{{{INDEXER2},{LIVE}}}": "0+5x120",
        },
    ),
    "IndexerPendingStuck": Case(fires={_OLDEST: CLOCK, _LAG: "10x120"}, quiet={_OLDEST: "2x120", _LAG: "10x120"}),
    # deep in a backlog every entry is old when it is delivered
    "IndexerPendingStuck: behind": Case(
        fires={_OLDEST: CLOCK, _LAG: "10x120"}, quiet={_OLDEST: CLOCK, _LAG: "90000x120"}
    ),
    "IndexerErrorRatioHigh": Case(
        fires={_EVENTS: "0+9000x120", _ERRORS: "0+1000x120"},
        quiet={_EVENTS: "0+9000x120", _ERRORS: "0+90x120"},
    ),
    "IndexerErrorRatioHigh: a handful": Case(
        fires={_EVENTS: "0+20x120", _ERRORS: "0+10x120"}, quiet={_EVENTS: "0+10x120", _ERRORS: "0+5x120"}
    ),
    "IndexerUnexpectedErrors": Case(
        fires={f"indexer_unexpected_errors_total{{{INDEXER}}}": "0+60x120"},
        quiet={f"indexer_unexpected_errors_total{{{INDEXER}}}": "0+20x120"},
    ),
    "IndexerDeadLetters": Case(
        fires={f'indexer_dead_letters_total{{{INDEXER},reason="refused_by_postgres"}}': "0x30 1x90"},
        quiet={f'indexer_dead_letters_total{{{INDEXER},reason="not_storable"}}': "0x30 1x90"},
    ),
    "IndexerPoolSaturated": Case(
        fires={
            f'indexer_db_pool_connections{{{INDEXER},state="busy"}}': "19x120",
            f'indexer_db_pool_connections{{{INDEXER},state="idle"}}': "1x120",
            f'indexer_db_pool_connections{{{INDEXER},state="unopened"}}': "0x120",
        },
        # all that are open are busy, but more may be opened
        quiet={
            f'indexer_db_pool_connections{{{INDEXER},state="busy"}}': "10x120",
            f'indexer_db_pool_connections{{{INDEXER},state="idle"}}': "0x120",
            f'indexer_db_pool_connections{{{INDEXER},state="unopened"}}': "10x120",
        },
    ),
}
