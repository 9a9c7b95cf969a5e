"""The alerts of ops/rules/monitoring.yml: the watch itself."""

from tests.monitoring.cases.series import INDEXER, Case

PROMETHEUS = 'service="prometheus",instance="localhost:9090"'
_FINE = {
    f'prometheus_rule_evaluation_failures_total{{{PROMETHEUS},rule_group="a"}}': "5x120",
    f"prometheus_config_last_reload_successful{{{PROMETHEUS}}}": "1x120",
    f"prometheus_notifications_alertmanagers_discovered{{{PROMETHEUS}}}": "1x120",
    f'prometheus_notifications_errors_total{{{PROMETHEUS},alertmanager="a"}}': "0x120",
}
_DISK = 'node_filesystem_avail_bytes{service="node",instance="host:9100",fstype="ext4",mountpoint="/"}'
CASES = {
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
