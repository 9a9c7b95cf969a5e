"""python -m sluice.docs: docs/settings.md and docs/metrics.md, written from the code so that they cannot drift."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import backfiller.metrics
import backfiller.settings
import common.build
import common.dependencies
import common.logs
import common.stream_gauges
import common.telemetry
import indexer.metrics
import indexer.settings
import ingester.metrics
import ingester.settings
from common.settings import PARSERS

DOCS = Path(__file__).parent.parent / "docs"
SETTINGS: dict[str, Any] = {
    "ingester": ingester.settings.Settings,
    "backfiller": backfiller.settings.Settings,
    "indexer": indexer.settings.Settings,
}
# named, so that all metrics are registered
METRIC_MODULES = (
    *(ingester.metrics, backfiller.metrics, indexer.metrics),
    *(common.build, common.dependencies, common.logs, common.stream_gauges, common.telemetry),
)


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Each daemon reads its environment once, at start. An unknown variable with its prefix, or a value that cannot"
        " be read, stops the start with a line that names every problem. A secret NAME may come from the file that"
        " NAME_FILE names.",
        "",
        "Made from the code by `make docs`.",
    ]
    for daemon, kind in SETTINGS.items():
        lines += ["", f"## {daemon}", "", "| variable | default | takes | what it does |", "|---|---|---|---|"]
        lines += [_setting_row(field) for field in dataclasses.fields(kind)]
    return "\n".join(lines) + "\n"


def _setting_row(field: Any) -> str:
    default = field.default
    shown = "**required**" if default is None else f"`{','.join(default) if isinstance(default, tuple) else default}`"
    shown = {"``": "empty", "`False`": "`false`", "`True`": "`true`"}.get(shown, shown)
    takes, _ = PARSERS[field.type]
    secret = "; a secret" if field.metadata["secret"] else ""
    return f"| `{field.metadata['env']}` | {shown} | {takes}{secret} | {_cell(field.metadata['help'])} |"


def metrics_page() -> str:
    lines = [
        "# Metrics",
        "",
        "Every daemon serves them at `/metrics` on its own port (ingester 4100, backfiller 9090, indexer 9090), next to"
        " `/healthz` (the event loop turns), `/readyz` (the daemon does its work, or waits for what others must mend:"
        " an outage, a full stream) and `/status.json` (what it is, whether it is ready and why not, and when each"
        " metric last moved). They are there from the start, beside those of the Prometheus client itself (`process_*`,"
        " `python_*`), except where a value is not known: it is left out, neither 0 nor what it was.",
        "",
        "Made from the code by `make docs`.",
    ]
    for title, prefix in (
        ("Ingester", "ingester_"),
        ("Backfiller", "backfiller_"),
        ("Indexer", "indexer_"),
        ("All daemons", "sluice_"),
    ):
        lines += ["", f"## {title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
        lines += [_metric_row(metric) for metric in _metrics(prefix)]
    return "\n".join(lines) + "\n"


def _metrics(prefix: str) -> Iterator[MetricWrapperBase]:
    for metric in sorted(set(REGISTRY._names_to_collectors.values()), key=lambda metric: getattr(metric, "_name", "")):
        if isinstance(metric, MetricWrapperBase) and metric._name.startswith(prefix):
            yield metric


def _metric_row(metric: MetricWrapperBase) -> str:
    kind = metric._type
    name = metric._name + ("_total" if kind == "counter" else "")
    labels = ", ".join(metric._labelnames) or "none"
    return f"| `{name}` | {kind} | {labels} | {_cell(metric._documentation)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES = {"settings.md": settings_page, "metrics.md": metrics_page}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        sys.stderr.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
