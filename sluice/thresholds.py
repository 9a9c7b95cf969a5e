"""`sluice thresholds`: the limits of alerts beside what a running Prometheus has seen, and what they could be."""

import asyncio
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp

from common.errors import CannotStart
from sluice.prometheus import Prometheus
from sluice.tables import plain_table, standard_output

PATIENCE = aiohttp.ClientTimeout(total=60)
OFTEN = 0.995  # the share of the time in which a limit should not be reached
ROOM = 2.0  # how far above that it belongs
MUCH_ROOM = 20.0  # above that it may never tell anything


@dataclass(frozen=True)
class Watched:
    """An alert that compares one number with a limit, as its annotations say: `measure` and `limit`."""

    alert: str
    measure: str
    limit: float


@dataclass(frozen=True)
class Seen:
    """The highest of all series: half of the time, nearly always, ever. None: nothing was measured."""

    median: float | None
    usual: float | None
    highest: float | None


@dataclass(frozen=True)
class Finding:
    alert: str
    limit: float
    seen: Seen
    suggestion: float | None
    advice: str


async def run(url: str, hours: int, *, as_json: bool) -> int:
    """0 if no limit was reached for more than a moment, else 1. Raises CannotStart."""
    async with aiohttp.ClientSession(timeout=PATIENCE) as http:
        prometheus = Prometheus(http, url)
        watched = list(limits(await prometheus.ask("rules", type="alert")))
        if not watched:
            raise CannotStart(f"{url} has none of our alerts; its configuration must name ops/rules/*.yml")
        seen = await asyncio.gather(*(seen_of(prometheus, it.measure, hours) for it in watched))
    findings = [judged(it, what) for it, what in zip(watched, seen, strict=True)]
    (print_json if as_json else print_table)(findings, hours)
    return 1 if any(it.advice == REACHED for it in findings) else 0


KEEP, REACHED, FAR = "keep", "reached: mend the cause, or raise it", "far away: it could be lower"
NOT_SEEN = "nothing measured yet"


def judged(watched: Watched, seen: Seen) -> Finding:
    """A limit belongs above what is usual, and not so far above that it never tells anything."""
    suggestion, advice = None, KEEP
    if seen.usual is None:
        advice = NOT_SEEN
    elif seen.usual > watched.limit:
        suggestion, advice = rounded_up(seen.usual * ROOM), REACHED
    elif 0 < seen.usual * MUCH_ROOM < watched.limit:
        suggestion, advice = rounded_up(seen.usual * ROOM), FAR
    return Finding(watched.alert, watched.limit, seen, suggestion, advice)


def rounded_up(value: float) -> float:
    """To 1, 2 or 5 times a power of ten: a limit that a person can remember. `value` is above 0."""
    power = 10.0 ** math.floor(math.log10(value))
    step = next(step for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))
    return float(f"{step * power:.3g}")


def limits(rules: Any) -> Iterator[Watched]:
    """From Prometheus' own answer, so that limits that were changed are those that run."""
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        annotations = rule.get("annotations", {})
        if "measure" in annotations and annotations.get("limit", "").startswith("> "):
            yield Watched(rule["name"], annotations["measure"], float(annotations["limit"][2:]))


async def seen_of(prometheus: Prometheus, measure: str, hours: int) -> Seen:
    over = f"({measure})[{hours}h:1m]"
    queries = (f"quantile_over_time(0.5, {over})", f"quantile_over_time({OFTEN}, {over})", f"max_over_time({over})")
    return Seen(*[await _highest(prometheus, query) for query in queries])


async def _highest(prometheus: Prometheus, query: str) -> float | None:
    found = (await prometheus.ask("query", query=f"max({query})"))["result"]
    value = float(found[0]["value"][1]) if found else math.nan
    return None if math.isnan(value) else value


def print_json(findings: list[Finding], hours: int) -> None:
    sys.stdout.write(json.dumps({"hours": hours, "limits": [asdict(it) for it in findings]}) + "\n")


def print_table(findings: list[Finding], hours: int) -> None:
    heads = ("#limit", "#median", f"#{OFTEN:.1%} of the time", "#highest", "#could be")
    table = plain_table("alert", *heads, "advice", title=f"limits, and the last {hours} hours")
    for it in findings:
        numbers = (it.limit, it.seen.median, it.seen.usual, it.seen.highest, it.suggestion)
        table.add_row(it.alert, *("" if number is None else f"{number:.4g}" for number in numbers), it.advice)
    standard_output().print(table)
