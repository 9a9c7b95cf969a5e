"""When a daemon counts as stalled, and when its metrics have moved."""

from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from common.progress import Progress, ProgressWatch, category_of

PROGRESS = Progress(work=("indexer_active_tasks",), done=("indexer_done_total",), patience_seconds=60.0)


def exported(work: float, done: float, **others: float) -> Iterable[Metric]:
    yield GaugeMetricFamily("indexer_active_tasks", "Batches.", value=work)
    yield CounterMetricFamily("indexer_done", "Done.", value=done)
    up = GaugeMetricFamily("sluice_dependency_up", "Up.", labels=["dependency"])
    up.add_metric(["redis"], 1)
    up.add_metric(["postgres"], others.get("postgres", 1))
    yield up
    yield GaugeMetricFamily("backfiller_backpressure_active", "Full.", value=others.get("full", 0))


def watch_of(*looks: Iterable[Metric], seconds: float = 61.0) -> ProgressWatch:
    """A watch that has looked so often, `seconds` apart."""
    watch = ProgressWatch(PROGRESS, 0.0)
    for number, families in enumerate(looks):
        watch.observe(families, number * seconds)
    return watch


def test_work_that_waits_while_nothing_gets_done_is_a_stall() -> None:
    watch = watch_of(exported(1, 5), exported(1, 5))
    assert watch.complaint(61.0).startswith("work waits, and nothing got done for 61 s")
    assert not watch.complaint(60.0)


@pytest.mark.parametrize(
    "second",
    [
        exported(0, 5),
        exported(1, 6),
        exported(1, 5, postgres=0),
        exported(1, 5, full=1),
    ],
    ids=["nothing to do", "something got done", "an outage", "a full stream"],
)
def test_what_waiting_cures_is_no_stall(second: Iterable[Metric]) -> None:
    watch = watch_of(exported(1, 5), second)
    assert not watch.complaint(61.0)
    assert watch.complaint(122.0)


def test_a_start_is_given_as_long() -> None:
    assert not ProgressWatch(PROGRESS, 100.0).complaint(160.0)


def test_what_has_not_moved_since_the_start_says_so() -> None:
    watch = watch_of(exported(1, 5), exported(1, 6), exported(1, 6), seconds=1.0)
    assert watch.categories() == {
        "dependencies": {"sluice_dependency_up": None},
        "backfiller": {"backfiller_backpressure_active": None},
        "indexer": {"indexer_active_tasks": None, "indexer_done": 1.0},
    }


def test_every_metric_has_a_category() -> None:
    names = (
        "sluice_stream_length",
        "sluice_redis_memory_bytes",
        "sluice_ready",
        "python_gc_objects",
        "ingester_frames",
    )
    assert [category_of(name) for name in names] == ["streams", "dependencies", "process", "process", "ingester"]
