"""The alerts of ops/rules/pipeline.yml: what all daemons have in common."""

from tests.monitoring.cases.series import ALL_UP, BACKFILLER, CLOCK, INDEXER, INDEXER2, INGESTER, LIVE, Case, Series


def without(series: Series, name: str) -> Series:
    return {key: values for key, values in series.items() if key != name}


CASES = {
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
