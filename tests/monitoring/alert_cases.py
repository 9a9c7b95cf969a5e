"""For each alert what Prometheus must see for it to fire, and a neighbour of that which must leave it quiet.

Values are in promtool's notation: `0+60x30` is 0, 60, 120, ... for 30 more steps; a step is a minute unless said
otherwise, and time begins at 0, so that `0+60x30` is also a clock.
"""

from dataclasses import dataclass

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    fires: Series
    quiet: Series
    after: str = "60m"
    step: str = "1m"


INGESTER = 'service="ingester",instance="ingester:4100"'
BACKFILLER = 'service="backfiller",instance="backfiller1:9090"'
INDEXER = 'service="indexer",instance="indexer1:9090"'
INDEXER2 = 'service="indexer",instance="indexer2:9090"'
RELAY = f'{INGESTER},source="firehose",host="relay.example"'
LIVE = 'stream="firehose_live"'
GROUP = f'{LIVE},group="firehose_group"'
CLOCK = "0+60x120"
ALL_UP = {f"up{{{who}}}": "1x120" for who in (INGESTER, BACKFILLER, INDEXER, INDEXER2)}


def without(series: Series, name: str) -> Series:
    return {key: values for key, values in series.items() if key != name}


PIPELINE = {
    "DaemonDown": Case(
        fires={**ALL_UP, f"up{{{INDEXER2}}}": "1x10 0x110"},
        quiet={**ALL_UP, f"up{{{INDEXER2}}}": "1x57 0x1 1x60"},
    ),
    "DaemonDown: no target": Case(fires=without(ALL_UP, f"up{{{BACKFILLER}}}"), quiet=ALL_UP),
    "DaemonRestarting": Case(
        fires={f"process_start_time_seconds{{{INDEXER}}}": "0x50 3000x3 3180x3 3360x60"},
        quiet={f"process_start_time_seconds{{{INDEXER}}}": "0x50 3000x70"},
    ),
    "ErrorsLogged": Case(
        fires={f'sluice_log_messages_total{{{INDEXER},level="ERROR"}}': "0x55 1x60"},
        quiet={
            f'sluice_log_messages_total{{{INDEXER},level="ERROR"}}': "0x30 1x90",
            f'sluice_log_messages_total{{{INDEXER},level="WARNING"}}': "0+1x120",
        },
    ),
    "DaemonStalled": Case(
        fires={f"sluice_heartbeat_timestamp_seconds{{{INDEXER}}}": "0+60x50 3000x70"},
        quiet={f"sluice_heartbeat_timestamp_seconds{{{INDEXER}}}": CLOCK, f"sluice_ready{{{INDEXER}}}": "1x120"},
    ),
    "DaemonStalled: no progress": Case(
        fires={f"sluice_heartbeat_timestamp_seconds{{{INDEXER}}}": CLOCK, f"sluice_ready{{{INDEXER}}}": "1x50 0x70"},
        quiet={f"sluice_heartbeat_timestamp_seconds{{{INDEXER}}}": CLOCK, f"sluice_ready{{{INDEXER}}}": "0x1 1x120"},
    ),
    "DependencyDown": Case(
        fires={f'sluice_dependency_up{{{INDEXER},dependency="postgres"}}': "1x50 0x70"},
        quiet={f'sluice_dependency_up{{{INDEXER},dependency="postgres"}}': "1x58 0x1 1x60"},
    ),
    "RedisMemoryHigh": Case(
        fires={
            f'sluice_redis_memory_bytes{{{INGESTER},kind="used"}}': "96x120",
            f'sluice_redis_memory_bytes{{{INGESTER},kind="max"}}': "100x120",
        },
        # two daemons see the same memory: it is not to be added up. Where what is known of repos takes 60 %,
        # writers wait at 92 %, and that is no fault
        quiet={
            f'sluice_redis_memory_bytes{{{INGESTER},kind="used"}}': "92x120",
            f'sluice_redis_memory_bytes{{{INGESTER},kind="max"}}': "100x120",
            f'sluice_redis_memory_bytes{{{INDEXER},kind="used"}}': "92x120",
        },
    ),
    "StreamNearHighWater": Case(
        fires={
            f"sluice_stream_length{{{INGESTER},{LIVE}}}": "90000x120",
            f"sluice_stream_high_water{{{INGESTER},{LIVE}}}": "100000x120",
        },
        # two daemons see the same entries: they are not to be added up
        quiet={
            f"sluice_stream_length{{{INGESTER},{LIVE}}}": "70000x120",
            f"sluice_stream_length{{{INDEXER},{LIVE}}}": "70000x120",
            f"sluice_stream_length{{{INDEXER2},{LIVE}}}": "70000x120",
            f"sluice_stream_high_water{{{INGESTER},{LIVE}}}": "100000x120",
        },
    ),
}

_TALKING = {
    f"ingester_upstream_connected{{{RELAY}}}": "1x120",
    f"ingester_backpressure_active{{{INGESTER}}}": "0x120",
}
_ACCOUNT = {
    **{
        f"ingester_{name}{{{INGESTER}}}": "0x120"
        for name in (
            *("labeler_events_total", "backfill_repos_fetched_total", "labels_written_total"),
            *("backfill_repos_written_total", "firehose_filtered_operations_total", "events_in_memory"),
        )
    },
    f"ingester_received_total{{{INGESTER}}}": "0+60000x120",
}
INGESTER_CASES = {
    "IngesterBackpressure": Case(
        fires={f"ingester_backpressure_active{{{INGESTER}}}": "0x10 1x110"},
        quiet={f"ingester_backpressure_active{{{INGESTER}}}": "0x56 1x2 0x1 1x60"},
    ),
    "IngesterBackpressureProlonged": Case(
        fires={f'ingester_backpressure_seconds_total{{{INGESTER},stream="firehose_live"}}': "0+40x120"},
        quiet={f'ingester_backpressure_seconds_total{{{INGESTER},stream="firehose_live"}}': "0+20x120"},
    ),
    "IngesterSourceLost": Case(
        fires={
            f"ingester_upstream_connected{{{RELAY}}}": "1x10 0x110",
            f"ingester_upstream_connected{{{RELAY.replace('relay', 'other')}}}": "1x10 0x110",
        },
        quiet={
            f"ingester_upstream_connected{{{RELAY}}}": "1x10 0x110",
            f"ingester_upstream_connected{{{RELAY.replace('relay', 'other')}}}": "1x120",
        },
    ),
    "IngesterSourceLost: silent": Case(
        fires={**_TALKING, f"ingester_upstream_last_received_timestamp_seconds{{{RELAY}}}": "0+60x30 1800x90"},
        quiet={**_TALKING, f"ingester_upstream_last_received_timestamp_seconds{{{RELAY}}}": CLOCK},
    ),
    "IngesterSourceLost: paused by people": Case(
        fires={f"ingester_upstream_connected{{{RELAY}}}": "0x120", f"ingester_source_paused{{{RELAY}}}": "0x120"},
        quiet={f"ingester_upstream_connected{{{RELAY}}}": "0x120", f"ingester_source_paused{{{RELAY}}}": "1x120"},
    ),
    # a host that is paused says nothing of the other
    "IngesterSourceLost: another is paused": Case(
        fires={
            **{f"ingester_upstream_connected{{{RELAY}}}": "0x120", f"ingester_source_paused{{{RELAY}}}": "1x120"},
            f"ingester_upstream_connected{{{RELAY.replace('relay', 'other')}}}": "1x10 0x110",
            f"ingester_source_paused{{{RELAY.replace('relay', 'other')}}}": "0x120",
        },
        quiet={
            **{f"ingester_upstream_connected{{{RELAY}}}": "0x120", f"ingester_source_paused{{{RELAY}}}": "1x120"},
            f"ingester_upstream_connected{{{RELAY.replace('relay', 'other')}}}": "1x120",
            f"ingester_source_paused{{{RELAY.replace('relay', 'other')}}}": "0x120",
        },
    ),
    "IngesterSourceLost: silent while another is paused": Case(
        fires={
            **_TALKING,
            f"ingester_upstream_last_received_timestamp_seconds{{{RELAY}}}": "0+60x30 1800x90",
            f"ingester_upstream_last_received_timestamp_seconds{{{RELAY.replace('relay', 'other')}}}": CLOCK,
            f"ingester_source_paused{{{RELAY.replace('relay', 'other')}}}": "1x120",
        },
        quiet={
            **_TALKING,
            f"ingester_upstream_last_received_timestamp_seconds{{{RELAY}}}": CLOCK,
            f"ingester_upstream_last_received_timestamp_seconds{{{RELAY.replace('relay', 'other')}}}": "60x120",
            f"ingester_source_paused{{{RELAY.replace('relay', 'other')}}}": "1x120",
        },
    ),
    "IngesterSourceLost: waiting for room": Case(
        fires={**_TALKING, f"ingester_upstream_last_received_timestamp_seconds{{{RELAY}}}": "0+60x30 1800x90"},
        quiet={
            **_TALKING,
            f"ingester_upstream_last_received_timestamp_seconds{{{RELAY}}}": "0+60x30 1800x90",
            f"ingester_backpressure_active{{{INGESTER}}}": "0x30 1x90",
        },
    ),
    "IngesterCursorStuck": Case(
        fires={
            f"ingester_upstream_received_seq{{{RELAY}}}": "0+100x120",
            f"ingester_upstream_cursor{{{RELAY}}}": "7x120",
            f"ingester_backpressure_active{{{INGESTER}}}": "0x120",
        },
        quiet={
            f"ingester_upstream_received_seq{{{RELAY}}}": "0+100x120",
            f"ingester_upstream_cursor{{{RELAY}}}": "0+90x120",
            f"ingester_backpressure_active{{{INGESTER}}}": "0x120",
        },
    ),
    # what still fits into memory is read, and then nothing moves: that is what backpressure is for
    "IngesterCursorStuck: waiting for room": Case(
        fires={
            f"ingester_upstream_received_seq{{{RELAY}}}": "0+100x120",
            f"ingester_upstream_cursor{{{RELAY}}}": "7x120",
            f"ingester_backpressure_active{{{INGESTER}}}": "0x120",
        },
        quiet={
            f"ingester_upstream_received_seq{{{RELAY}}}": "0+100x55 5600x65",
            f"ingester_upstream_cursor{{{RELAY}}}": "0+100x45 4500x75",
            f"ingester_backpressure_active{{{INGESTER}}}": "0x45 1x75",
        },
    ),
    "IngesterEventsMissed": Case(
        fires={f'ingester_gaps_unclosed{{{INGESTER},source="firehose"}}': "0x10 1x110"},
        quiet={f'ingester_gaps_unclosed{{{INGESTER},source="firehose"}}': "0x60 1x30 0x30"},
        after="90m",
    ),
    "IngesterUnitsUnaccounted": Case(
        fires={**_ACCOUNT, f"ingester_stream_events_total{{{INGESTER}}}": "0+59000x120"},
        quiet={**_ACCOUNT, f"ingester_stream_events_total{{{INGESTER}}}": "0+60000x120"},
    ),
    "IngesterUnitsUnaccounted: dropped": Case(
        fires={
            **_ACCOUNT,
            f"ingester_stream_events_total{{{INGESTER}}}": "0+60000x120",
            f'ingester_dropped_total{{{INGESTER},source="firehose",reason="bad_frame"}}': "0+1000x120",
        },
        quiet={
            **_ACCOUNT,
            f"ingester_stream_events_total{{{INGESTER}}}": "0+59000x120",
            f'ingester_dropped_total{{{INGESTER},source="firehose",reason="bad_frame"}}': "0+400x120",
            f'ingester_dropped_total{{{INGESTER},source="firehose",reason="bad_op"}}': "0+600x120",
        },
    ),
    "IngesterDropRatioHigh: told by two relays": Case(
        fires={
            f"ingester_received_total{{{INGESTER}}}": "0+60000x120",
            f"ingester_labeler_events_total{{{INGESTER}}}": "0+600x120",
            f'ingester_dropped_total{{{INGESTER},source="firehose",reason="bad_op"}}': "0+1000x120",
        },
        quiet={
            f"ingester_received_total{{{INGESTER}}}": "0+60000x120",
            f"ingester_labeler_events_total{{{INGESTER}}}": "0+600x120",
            f'ingester_dropped_total{{{INGESTER},source="firehose",reason="duplicate"}}': "0+30000x120",
        },
    ),
    "IngesterDropRatioHigh: a handful": Case(
        fires={
            f"ingester_received_total{{{INGESTER}}}": "0+20x120",
            f"ingester_labeler_events_total{{{INGESTER}}}": "0x120",
            f'ingester_dropped_total{{{INGESTER},source="firehose",reason="bad_op"}}': "0+2x120",
        },
        quiet={
            f"ingester_received_total{{{INGESTER}}}": "0+10x120",
            f"ingester_labeler_events_total{{{INGESTER}}}": "0x120",
            f'ingester_dropped_total{{{INGESTER},source="firehose",reason="bad_op"}}': "0+1x120",
        },
    ),
    "IngesterReposOutOfStep": Case(
        fires={
            f"ingester_repos_known{{{INGESTER}}}": "1000x120",
            f"ingester_repos_desynchronised{{{INGESTER}}}": "20x120",
        },
        # two ingesters see the same repos: they are not to be added up
        quiet={
            f"ingester_repos_known{{{INGESTER}}}": "1000x120",
            f"ingester_repos_desynchronised{{{INGESTER}}}": "9x120",
            f"ingester_repos_desynchronised{{{INGESTER.replace('ingester:', 'other:')}}}": "9x120",
        },
    ),
    "IngesterDropRatioHigh": Case(
        fires={
            f"ingester_received_total{{{INGESTER}}}": "0+60000x120",
            f"ingester_labeler_events_total{{{INGESTER}}}": "0+600x120",
            f'ingester_dropped_total{{{INGESTER},source="firehose",reason="bad_op"}}': "0+1000x120",
        },
        # the ratio of each reason to itself would be 1
        quiet={
            f"ingester_received_total{{{INGESTER}}}": "0+60000x120",
            f"ingester_labeler_events_total{{{INGESTER}}}": "0+600x120",
            f'ingester_dropped_total{{{INGESTER},source="firehose",reason="bad_op"}}': "0+60x120",
        },
    ),
}

_FAILED, _PROCESSED = (
    f"backfiller_repos_failed_total{{{BACKFILLER}}}",
    f"backfiller_repos_processed_total{{{BACKFILLER}}}",
)
_STALLED = {
    f"backfiller_repos_waiting{{{BACKFILLER}}}": "50x120",
    f'backfiller_repo_outcomes_total{{{BACKFILLER},outcome="done"}}': "10x120",
    f"backfiller_repos_failed_total{{{BACKFILLER}}}": "1x120",
    f"backfiller_backpressure_active{{{BACKFILLER}}}": "0x120",
}
BACKFILLER_CASES = {
    "BackfillerHighErrorRate": Case(fires={_FAILED: "0+700x120"}, quiet={_FAILED: "0+500x120"}),
    "BackfillerFailureRatioHigh": Case(
        fires={_FAILED: "0+30x120", _PROCESSED: "0+70x120"},
        quiet={_FAILED: "0+10x120", _PROCESSED: "0+90x120"},
    ),
    "BackfillerFailureRatioHigh: one of a few": Case(
        fires={_FAILED: "0+30x120", _PROCESSED: "0+70x120"},
        quiet={_FAILED: "0x55 1x65", _PROCESSED: "0x120"},
    ),
    "BackfillerRetryFlood": Case(
        fires={
            _FAILED: "0+60x120",
            _PROCESSED: "0+40x120",
            f"backfiller_retries_attempted_total{{{BACKFILLER}}}": "0+60x120",
        },
        quiet={
            _FAILED: "0+40x120",
            _PROCESSED: "0+60x120",
            f"backfiller_retries_attempted_total{{{BACKFILLER}}}": "0+40x120",
        },
    ),
    "BackfillerRetryFlood: a handful": Case(
        fires={
            _FAILED: "0+2x120",
            _PROCESSED: "0+1x120",
            f"backfiller_retries_attempted_total{{{BACKFILLER}}}": "0+2x120",
        },
        quiet={
            _FAILED: "0+1x120",
            _PROCESSED: "0x120",
            f"backfiller_retries_attempted_total{{{BACKFILLER}}}": "0+1x120",
        },
    ),
    "BackfillerStalled": Case(
        fires=_STALLED,
        quiet={**_STALLED, f'backfiller_repo_outcomes_total{{{BACKFILLER},outcome="done"}}': "10+1x120"},
    ),
    "BackfillerStalled: the output is full": Case(
        fires=_STALLED, quiet={**_STALLED, f"backfiller_backpressure_active{{{BACKFILLER}}}": "1x120"}
    ),
    "BackfillerVerificationErrorsHigh: a handful": Case(
        fires={
            _FAILED: "0+1x120",
            _PROCESSED: "0+4x120",
            f"backfiller_verification_errors_total{{{BACKFILLER}}}": "0+1x120",
        },
        quiet={
            _FAILED: "0x50 1x70",
            _PROCESSED: "0x120",
            f"backfiller_verification_errors_total{{{BACKFILLER}}}": "0x50 1x70",
        },
    ),
    "BackfillerVerificationErrorsHigh": Case(
        fires={
            _FAILED: "0+10x120",
            _PROCESSED: "0+90x120",
            f"backfiller_verification_errors_total{{{BACKFILLER}}}": "0+10x120",
        },
        quiet={
            _FAILED: "0+10x120",
            _PROCESSED: "0+90x120",
            f"backfiller_verification_errors_total{{{BACKFILLER}}}": "0+2x120",
        },
        after="90m",
    ),
    "BackfillerDeadLetterBudgetBurn": Case(
        fires={f"backfiller_repos_dead_lettered_total{{{BACKFILLER}}}": "0+6x120", _PROCESSED: "0+60x120"},
        # much in the last hour, little in the last six
        quiet={
            f"backfiller_repos_dead_lettered_total{{{BACKFILLER}}}": "0x60 0+6x10",
            _PROCESSED: "0+6000x60 360000+60x60",
        },
        after="70m",
    ),
}

_LAG = f"sluice_stream_group_lag{{{INDEXER},{GROUP}}}"
_OLDEST = f"sluice_stream_group_oldest_pending_age_seconds{{{INDEXER},{GROUP}}}"
_EVENTS, _ERRORS = f"indexer_events_processed_total{{{INDEXER}}}", f"indexer_errors_total{{{INDEXER}}}"
_BATCHES = f"indexer_batch_duration_seconds_count{{{INDEXER},{LIVE}}}"
INDEXER_CASES = {
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
            f"indexer_db_pool_max_connections{{{INDEXER}}}": "20x120",
        },
        quiet={
            f'indexer_db_pool_connections{{{INDEXER},state="busy"}}': "10x120",
            f'indexer_db_pool_connections{{{INDEXER},state="idle"}}': "10x120",
            f"indexer_db_pool_max_connections{{{INDEXER}}}": "20x120",
        },
    ),
}

_COMMITTED = f"indexer_last_committed_event_timestamp_seconds{{{INDEXER},{LIVE}}}"
_RECEIVED = f"ingester_upstream_last_received_timestamp_seconds{{{RELAY}}}"
_ON_TIME = f'indexer_freshness_seconds_bucket{{{INDEXER},{LIVE},le="30.0"}}'
_ALL = f"indexer_freshness_seconds_count{{{INDEXER},{LIVE}}}"
_REPLAYED = f'indexer_freshness_seconds_count{{{INDEXER},stream="firehose_backfill"}}'
SLO = {
    "FreshnessBudgetBurnFast": Case(
        fires={_ON_TIME: "0+80x120", _ALL: "0+100x120"},
        quiet={_ON_TIME: "0+99x120", _ALL: "0+100x120", _REPLAYED: "0+100x120"},
    ),
    # an hour ago it was bad, and it is no longer
    "FreshnessBudgetBurnFast: over": Case(
        fires={_ON_TIME: "0+80x120", _ALL: "0+100x120"},
        quiet={_ON_TIME: "0+50x40 2000+100x80", _ALL: "0+100x120"},
        after="75m",
    ),
    # one event a minute, and each of them late
    "FreshnessBudgetBurnFast: a handful": Case(
        fires={_ON_TIME: "0x120", _ALL: "0+2x120"}, quiet={_ON_TIME: "0x120", _ALL: "0+1x120"}
    ),
    "FreshnessBudgetBurnSlow": Case(
        fires={_ON_TIME: "0+96x600", _ALL: "0+100x600"}, quiet={_ON_TIME: "0+999x600", _ALL: "0+1000x600"}, after="8h"
    ),
    "LiveDataStale": Case(
        fires={_COMMITTED: "0+60x10 600x110", _RECEIVED: CLOCK},
        quiet={_COMMITTED: "0+60x10 600x110", _RECEIVED: "0+60x10 600x110"},  # the network itself is quiet
    ),
    "LiveDataStale: one indexer of two": Case(
        fires={_COMMITTED: "0+60x10 600x110", _RECEIVED: CLOCK},
        quiet={
            _COMMITTED: "0+60x10 600x110",
            _COMMITTED.replace("indexer1", "indexer2"): CLOCK,
            _RECEIVED: CLOCK,
        },
    ),
}

PROMETHEUS = 'service="prometheus",instance="localhost:9090"'
_FINE = {
    f'prometheus_rule_evaluation_failures_total{{{PROMETHEUS},rule_group="a"}}': "5x120",
    f"prometheus_config_last_reload_successful{{{PROMETHEUS}}}": "1x120",
    f"prometheus_notifications_alertmanagers_discovered{{{PROMETHEUS}}}": "1x120",
    f'prometheus_notifications_errors_total{{{PROMETHEUS},alertmanager="a"}}': "0x120",
}
_DISK = 'node_filesystem_avail_bytes{service="node",instance="host:9100",fstype="ext4",mountpoint="/"}'
MONITORING = {
    "MonitoringFaulty": Case(
        fires={**_FINE, f"prometheus_notifications_alertmanagers_discovered{{{PROMETHEUS}}}": "1x10 0x110"}, quiet=_FINE
    ),
    "MonitoringFaulty: a rule": Case(
        fires={**_FINE, f'prometheus_rule_evaluation_failures_total{{{PROMETHEUS},rule_group="a"}}': "0+1x120"},
        quiet=_FINE,
    ),
    "MonitoringFaulty: the configuration": Case(
        fires={**_FINE, f"prometheus_config_last_reload_successful{{{PROMETHEUS}}}": "1x10 0x110"}, quiet=_FINE
    ),
    "MonitoringFaulty: nobody takes it": Case(
        fires={'alertmanager_notifications_failed_total{service="alertmanager",integration="webhook"}': "0+1x120"},
        quiet={'alertmanager_notifications_failed_total{service="alertmanager",integration="webhook"}': "7x120"},
    ),
    "MonitoringFaulty: undelivered": Case(
        fires={**_FINE, f'prometheus_notifications_errors_total{{{PROMETHEUS},alertmanager="a"}}': "0+1x120"},
        quiet=_FINE,
    ),
    "MonitoringFaulty: an exporter": Case(
        fires={**_FINE, 'up{service="redis",instance="redis-exporter:9121"}': "1x10 0x110"},
        quiet={**_FINE, 'up{service="redis",instance="redis-exporter:9121"}': "1x120", f"up{{{INDEXER}}}": "0x120"},
    ),
    "HostDiskFills": Case(fires={_DISK: "1000000-1000x540"}, quiet={_DISK: "1000000-10x540"}, after="8h"),
}

# by the file of rules that they are about
CASES: dict[str, dict[str, Case]] = {
    "pipeline": PIPELINE,
    "ingester": INGESTER_CASES,
    "backfiller": BACKFILLER_CASES,
    "indexer": INDEXER_CASES,
    "slo": SLO,
    "monitoring": MONITORING,
}
ALWAYS = {"Watchdog"}  # fires whatever happens
