"""The alerts of ops/rules/ingester.yml: the ingester."""

from tests.monitoring.cases.series import CLOCK, INGESTER, OTHER, RELAY, Case

_TALKING = {
    f"ingester_upstream_connected{{{RELAY}}}": "1x120",
    f"ingester_backpressure_active{{{INGESTER}}}": "0x120",
}
_WRITTEN = f'ingester_written_total{{{INGESTER},source="firehose"}}'
_DROPPED = f'ingester_dropped_total{{{INGESTER},source="firehose",reason='
_RECEIVED, _LISTED = (f'ingester_received_total{{{INGESTER},source="{source}"}}' for source in ("firehose", "listing"))
_ACCOUNT = {
    _RECEIVED: "0+60000x120",
    f"{_DROPPED}'unwritten'}}": "0x120",
    f"ingester_firehose_filtered_operations_total{{{INGESTER}}}": "0x120",
    f"ingester_events_in_memory{{{INGESTER}}}": "0x120",
}
CASES = {
    "IngesterBackpressure": Case(
        fires={f"ingester_backpressure_active{{{INGESTER}}}": "0x10 1x110"},
        quiet={f"ingester_backpressure_active{{{INGESTER}}}": "0x56 1x2 0x1 1x60"},
    ),
    "IngesterBackpressureProlonged": Case(
        fires={f'sluice_backpressure_seconds_total{{{INGESTER},stream="firehose_live"}}': "0+40x120"},
        quiet={f'sluice_backpressure_seconds_total{{{INGESTER},stream="firehose_live"}}': "0+20x120"},
    ),
    "IngesterSourceLost": Case(
        fires={
            f"ingester_upstream_connected{{{RELAY}}}": "1x10 0x110",
            f"ingester_upstream_connected{{{OTHER}}}": "1x10 0x110",
        },
        quiet={
            f"ingester_upstream_connected{{{RELAY}}}": "1x10 0x110",
            f"ingester_upstream_connected{{{OTHER}}}": "1x120",
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
            f"ingester_upstream_connected{{{OTHER}}}": "1x10 0x110",
            f"ingester_source_paused{{{OTHER}}}": "0x120",
        },
        quiet={
            **{f"ingester_upstream_connected{{{RELAY}}}": "0x120", f"ingester_source_paused{{{RELAY}}}": "1x120"},
            f"ingester_upstream_connected{{{OTHER}}}": "1x120",
            f"ingester_source_paused{{{OTHER}}}": "0x120",
        },
    ),
    "IngesterSourceLost: silent while another is paused": Case(
        fires={
            **_TALKING,
            f"ingester_upstream_last_received_timestamp_seconds{{{RELAY}}}": "0+60x30 1800x90",
            f"ingester_upstream_last_received_timestamp_seconds{{{OTHER}}}": CLOCK,
            f"ingester_source_paused{{{OTHER}}}": "1x120",
        },
        quiet={
            **_TALKING,
            f"ingester_upstream_last_received_timestamp_seconds{{{RELAY}}}": CLOCK,
            f"ingester_upstream_last_received_timestamp_seconds{{{OTHER}}}": "60x120",
            f"ingester_source_paused{{{OTHER}}}": "1x120",
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
        fires={**_ACCOUNT, _WRITTEN: "0+59000x120"},
        quiet={**_ACCOUNT, _WRITTEN: "0+60000x120"},
    ),
    "IngesterUnitsUnaccounted: dropped": Case(
        fires={
            **_ACCOUNT,
            _WRITTEN: "0+60000x120",
            f"{_DROPPED}'bad_frame'}}": "0+1000x120",
        },
        quiet={
            **_ACCOUNT,
            _WRITTEN: "0+59000x120",
            f"{_DROPPED}'bad_frame'}}": "0+400x120",
            f"{_DROPPED}'bad_op'}}": "0+600x120",
        },
    ),
    "IngesterDropRatioHigh: told by two relays": Case(
        fires={
            _RECEIVED: "0+60000x120",
            _LISTED: "0+900000x120",
            f"{_DROPPED}'bad_op'}}": "0+1000x120",
        },
        quiet={
            _RECEIVED: "0+60000x120",
            _LISTED: "0+900000x120",
            f"{_DROPPED}'duplicate'}}": "0+30000x120",
        },
    ),
    "IngesterDropRatioHigh: a handful": Case(
        fires={
            _RECEIVED: "0+20x120",
            f"{_DROPPED}'bad_op'}}": "0+2x120",
        },
        quiet={
            _RECEIVED: "0+10x120",
            f"{_DROPPED}'bad_op'}}": "0+1x120",
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
            _RECEIVED: "0+60000x120",
            _LISTED: "0+900000x120",
            f"{_DROPPED}'bad_op'}}": "0+1000x120",
        },
        # the ratio of each reason to itself would be 1
        quiet={
            _RECEIVED: "0+60000x120",
            _LISTED: "0+900000x120",
            f"{_DROPPED}'bad_op'}}": "0+60x120",
        },
    ),
}
