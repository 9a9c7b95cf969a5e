"""python -m sluice.docs: the pages of docs/ that are made from the code, so that they cannot drift from it."""

import dataclasses
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import typer
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
from indexer.handler import RecordHandler
from indexer.records import APPVIEWS, HANDLERS
from sluice.cli import app

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


def commands_page() -> str:
    lines = [
        "# Commands",
        "",
        "`sluice COMMAND --help` says the same in the terminal; `sluice --install-completion` teaches your shell the"
        " names. Every command ends with 0 if all is well, 1 if something needs a look, 2 if it cannot start like this"
        " (the line on standard error says what to do) and 130 after Ctrl-C.",
        "",
        "Made from the code by `make docs`.",
    ]
    for name, command in commands("sluice", typer.main.get_command(app)):
        lines += ["", f"## {name}", "", cleandoc(command.help or "")]
        options = [row for parameter in command.params if (row := _option_row(parameter))]
        if options:
            lines += ["", "| option | default | what it does |", "|---|---|---|", *options]
    return "\n".join(lines) + "\n"


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if name != "sluice":
        yield name, command
    for part, inner in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {part}", inner)


def _option_row(parameter: Any) -> str:
    """Empty for what every command has."""
    if parameter.name == "help":
        return ""
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = parameter.name.upper()
    default = parameter.default
    shown = " ".join(default) if isinstance(default, list | tuple) else default
    told = "" if shown in (None, "", False) or isinstance(shown, Path) else f"`{str(shown).lower()}`"
    where = f" Or `{parameter.envvar}` in the environment." if parameter.envvar else ""
    return f"| {names} | {told} | {_cell((parameter.help or '') + where)} |"


def records_page() -> str:
    lines = [
        "# Record types",
        "",
        "What becomes of each type of record. Every one has a row in `record` too, and a file in `indexer/records/`."
        " Other collections are filtered; a new type is a new file there and its lexicon.",
        "",
        "Made from the code by `make docs`.",
        "",
        "| collection | tables | counts that it moves | since AppView |",
        "|---|---|---|---|",
    ]
    lines += [_record_row(handler) for _, handler in sorted(HANDLERS.items())]
    return "\n".join(lines) + "\n"


def _record_row(handler: RecordHandler) -> str:
    tables = ", ".join(f"`{table.name}`" for table in handler.tables) or "none but `record`"
    counters = dict.fromkeys(f"`{c.table}.{c.column}`" for table in handler.tables for c in table.counters)
    return f"| `{handler.collection}` | {tables} | {', '.join(counters) or 'none'} | {handler.since or APPVIEWS[0]} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "commands.md": commands_page,
    "records.md": records_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        sys.stderr.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
