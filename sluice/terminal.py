"""The pipeline's status as text: for one look, and for one that goes on."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sluice.report import duration
from sluice.tables import plain_table

STYLES = {"ok": "green", "waiting": "yellow", "behind": "yellow", "trouble": "red"}
BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 60
UNKNOWN = "-"


def status_view(status: Mapping[str, Any]) -> Group:
    """What `document` says, in tables."""
    head = Text.assemble((f"{status['state']}: ", STYLES[status["state"]]), status["sentence"])
    notes = [Text(f"  {note}", style=STYLES[status["state"]]) for note in status["notes"]]
    parts: list[RenderableType] = [head, *notes, _streams(status["streams"]), _daemons(status["daemons"])]
    if status["hosts"]:
        parts.append(_hosts(status["hosts"]))
    if status["troubles"]:
        parts.append(_troubles(status["troubles"]))
    return Group(*parts)


def top_view(status: Mapping[str, Any], series: Mapping[str, Sequence[float | None]]) -> Group:
    """The same, with rates over the last minute above it."""
    return Group(_rates(status["rates"], series), status_view(status))


def _rates(now: Mapping[str, float | None], series: Mapping[str, Sequence[float | None]]) -> Table:
    table = Table.grid(padding=(0, 2))
    shown = {
        "received": "events from the network",
        "indexed": "events indexed",
        "rows": "rows written",
        "records": "records of whole repos",
    }
    for name, label in shown.items():
        table.add_row(label, f"{_number(now.get(name))}/s", Text(sparkline(series.get(name, ())), style="cyan"))
    return table


def sparkline(values: Sequence[float | None]) -> str:
    """The newest values as bars; a blank is unknown, or nothing."""
    newest = values[-WIDTH:]
    top = max((value for value in newest if value is not None), default=0.0) or 1.0
    return "".join(BARS[0 if not value else max(1, round(value / top * (len(BARS) - 1)))] for value in newest)


def _streams(streams: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table("stream", "#waiting", "#in hand", "#oldest", "#full at", "fill")
    for stream in streams:
        bar = "█" * round(stream["fill"] * 10)
        table.add_row(
            stream["name"],
            _number(stream["length"]),
            _number(stream["pending"]) if stream["is_work"] else "",
            duration(stream["oldest_seconds"]) if stream["is_work"] and stream["length"] else "",
            "" if stream["high_water"] is None else _number(stream["high_water"]),
            Text("full: writers wait", style="yellow") if stream["paused"] else Text(bar, style="cyan"),
        )
    return table


def _daemons(daemons: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table("daemon", "address", "state", "#up for", "#memory", "build")
    for daemon in daemons:
        state = Text("ready", style="green") if daemon["ready"] else Text(daemon["complaint"], style="red")
        uptime, memory = daemon["uptime_seconds"], daemon["memory_bytes"]
        table.add_row(
            daemon["kind"] or UNKNOWN,
            daemon["address"],
            state,
            UNKNOWN if uptime is None else duration(uptime),
            UNKNOWN if memory is None else f"{memory / 1048576:.0f} MB",
            " ".join(filter(None, (daemon["version"], daemon["commit"]))),
        )
    return table


def _hosts(hosts: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table("source", "upstream", "state", "#events behind", "#last heard")
    for host in hosts:
        behind, quiet = host["behind_seconds"], host["quiet_seconds"]
        table.add_row(
            host["source"],
            host["host"],
            _connection(host),
            UNKNOWN if behind is None else duration(behind),
            "never" if quiet is None else f"{duration(quiet)} ago",
        )
    return table


def _connection(host: Mapping[str, Any]) -> Text:
    if host["paused"]:
        return Text("paused", style="yellow")
    return Text("connected", style="green") if host["connected"] else Text("not connected", style="red")


def _troubles(troubles: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table("left out or gone wrong", "why", "#how often")
    for trouble in troubles:
        table.add_row(trouble["what"], trouble["why"], _number(trouble["count"]))
    return table


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"
