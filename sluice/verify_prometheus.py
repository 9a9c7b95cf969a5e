"""Whether a Prometheus scrapes the daemons, its rules are healthy, and the dashboards' queries answer."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import CannotStart
from sluice.check import Check
from sluice.prometheus import Prometheus, Refusal

_VARIABLES = re.compile(r"\$\{?__(rate_interval|interval|range)\}?")
_CHOSEN = re.compile(r"\$\{?\w+(:\w+)?\}?")
MOST_NAMED = 5


async def of_prometheus(prometheus: Prometheus, dashboards: Path | None) -> list[Check]:
    """What it says, or that it does not answer."""
    try:
        found = [await _targets(prometheus), await _rules(prometheus)]
        return [*found, await _queries(prometheus, dashboards)] if dashboards else found
    except (CannotStart, OSError, ValueError) as error:
        return [Check.failed("prometheus answers", str(error))]


async def _targets(prometheus: Prometheus) -> Check:
    targets = (await prometheus.ask("targets", state="active"))["activeTargets"]
    down = [f"{t['labels'].get('instance')} ({t['lastError'] or t['health']})" for t in targets if t["health"] != "up"]
    good = not down and bool(targets)
    return Check.of("every target of prometheus is up", good, _named(down, f"{len(targets)} targets"))


async def _rules(prometheus: Prometheus) -> Check:
    rules = [rule for group in (await prometheus.ask("rules"))["groups"] for rule in group["rules"]]
    ill = [f"{rule['name']}: {rule.get('lastError') or rule['health']}" for rule in rules if rule["health"] == "err"]
    return Check.of("every rule is healthy", not ill and bool(rules), _named(ill, f"{len(rules)} rules"))


async def _queries(prometheus: Prometheus, dashboards: Path) -> Check:
    """A query that is refused fails; one that finds nothing is named, for much is rightly absent on a good day."""
    asked, refused, empty = 0, [], []
    for where, query in queries(dashboards):
        asked += 1
        try:
            found = await prometheus.ask("query", query=query)
        except Refusal as refusal:
            refused.append(f"{where}: {refusal}")
            continue
        if not found["result"]:
            empty.append(where)
    said = _named(refused, f"{asked} queries, {len(empty)} without data" + (f": {_named(empty, '')}" if empty else ""))
    return Check.of("the dashboards' queries answer", not refused and asked > len(empty), said)


def queries(dashboards: Path) -> Iterator[tuple[str, str]]:
    """(board / panel, query) of every panel, with everything chosen that can be chosen. Raises ValueError."""
    files = sorted(dashboards.rglob("*.json"))
    if not files:
        raise ValueError(f"no dashboard in {dashboards}")
    for file in files:
        for panel in _panels(json.loads(file.read_text(encoding="utf-8"))):
            for target in panel.get("targets", ()):
                if query := target.get("expr"):
                    yield f"{file.stem} / {panel.get('title', '?')}", _CHOSEN.sub(".+", _VARIABLES.sub("5m", query))


def _panels(board: Any) -> Iterator[Any]:
    for panel in board.get("panels", ()):
        yield panel
        yield from _panels(panel)


def _named(faults: list[str], otherwise: str) -> str:
    more = f" and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
    return "; ".join(faults[:MOST_NAMED]) + more if faults else otherwise
