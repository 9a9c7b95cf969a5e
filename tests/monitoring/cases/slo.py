"""The alerts of ops/rules/slo.yml: what is promised."""

from tests.monitoring.cases.series import CLOCK, INDEXER, LIVE, RELAY, Case

_COMMITTED = f"indexer_last_committed_event_timestamp_seconds{{{INDEXER},{LIVE}}}"
_RECEIVED = f"ingester_upstream_last_received_timestamp_seconds{{{RELAY}}}"
_ON_TIME = f'indexer_freshness_seconds_bucket{{{INDEXER},{LIVE},le="30.0"}}'
_ALL = f"indexer_freshness_seconds_count{{{INDEXER},{LIVE}}}"
_REPLAYED = f'indexer_freshness_seconds_count{{{INDEXER},stream="firehose_backfill"}}'
CASES = {
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
