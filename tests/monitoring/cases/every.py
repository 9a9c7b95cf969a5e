"""All cases, by the file of rules that they are about: for each alert what must make it fire, and what must not."""

from tests.monitoring.cases import backfiller, indexer, ingester, monitoring, pipeline, slo
from tests.monitoring.cases.series import Case

CASES: dict[str, dict[str, Case]] = {
    "pipeline": pipeline.CASES,
    "ingester": ingester.CASES,
    "backfiller": backfiller.CASES,
    "indexer": indexer.CASES,
    "slo": slo.CASES,
    "monitoring": monitoring.CASES,
}
ALWAYS = {"Watchdog"}  # fires whatever happens
