"""Names of metrics: those of the contract are there from the start, and all read as Prometheus wants them."""

import re
from importlib import import_module
from math import prod

import pytest
from prometheus_client import REGISTRY, Histogram, Metric, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from sluice.contract import CONTRACT, GAUGES

for _daemon in CONTRACT:
    import_module(f"{_daemon}.app")
FAMILIES: dict[str, Metric] = {
    family.name: family for family in text_string_to_metric_families(generate_latest(REGISTRY).decode())
}
OURS = {name: family for name, family in FAMILIES.items() if name.startswith((*CONTRACT, "sluice_"))}


def test_the_contract_has_all_its_names() -> None:
    assert {daemon: len(names) for daemon, names in CONTRACT.items()} == {
        "ingester": 8,
        "backfiller": 11,
        "indexer": 12,
    }
    assert set().union(*CONTRACT.values()) >= GAUGES


@pytest.mark.parametrize("name", sorted(set().union(*CONTRACT.values())))
def test_a_metric_of_the_contract_is_exported_from_the_start_without_labels(name: str) -> None:
    assert REGISTRY.get_sample_value(name) is not None
    assert FAMILIES[name.removesuffix("_total")].type == ("gauge" if name in GAUGES else "counter")


def test_every_metric_says_what_it_means() -> None:
    assert [name for name, family in OURS.items() if not re.fullmatch(r".{15,}\.", family.documentation)] == []
    assert len(OURS) > 80


def test_counters_are_named_for_what_they_add_up() -> None:
    counters = [sample.name for family in OURS.values() if family.type == "counter" for sample in family.samples]
    assert [name for name in counters if not name.endswith("_total")] == []


def test_times_are_in_seconds_and_sizes_in_bytes() -> None:
    odd = re.compile(r"_(ms|millis|milliseconds|minutes|hours|kb|mb|kilobytes)(_|$)")
    assert [name for name in OURS if odd.search(name)] == []


def test_a_series_with_labels_is_there_from_the_start_where_the_labels_are_known() -> None:
    """What an alert divides by must not be absent. Hosts, streams and groups are known once they are configured."""
    configured = {"host", "stream", "group"}
    for name in ("indexer_outcomes", "indexer_dead_letters", "backfiller_repo_outcomes", "sluice_log_messages"):
        labels = {label for sample in FAMILIES[name].samples for label in sample.labels}
        assert labels - configured, name


def test_no_label_holds_what_the_network_chooses() -> None:
    bounded = {
        *("stream", "group", "host", "source", "reason", "outcome", "kind", "result", "end", "level", "le"),
        *("dependency", "state", "where", "version", "commit", "python"),
    }
    found = {label for family in OURS.values() for sample in family.samples for label in sample.labels}
    assert found <= bounded


def test_a_daemon_exports_no_more_series_than_a_prometheus_takes_easily() -> None:
    """As if the ingester read 20 hosts: every label value that the closed lists and such a configuration allow."""
    values = {
        "host": 20,
        "source": 3,
        "stream": 5,
        "group": 1,
        "reason": 40,
        "kind": 10,
        "outcome": 20,
        "result": 5,
        "end": 6,
        "level": 4,
        "dependency": 2,
        "state": 4,
        "where": 2,
        "version": 1,
        "commit": 1,
        "python": 1,
    }
    for daemon in CONTRACT:
        metrics = {m for m in REGISTRY._names_to_collectors.values() if isinstance(m, MetricWrapperBase)}
        ours = [m for m in metrics if m._name.startswith((daemon, "sluice_"))]
        series = sum(_samples(m) * prod(values[label] for label in m._labelnames) for m in ours)
        assert series < 1500, daemon


def _samples(metric: MetricWrapperBase) -> int:
    """Series for each set of label values."""
    return len(metric._upper_bounds) + 2 if isinstance(metric, Histogram) else 1


def test_our_own_families_beside_the_contracts_are_few() -> None:
    """Who adds one looks for one that says too little to keep."""
    contract = {name.removesuffix("_total") for names in CONTRACT.values() for name in names}
    assert len(OURS.keys() - contract) <= 58
