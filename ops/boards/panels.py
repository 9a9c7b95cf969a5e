"""The vocabulary of a board: rows of panels, and the queries that come up again and again.

A daemon counts what it did itself, which is added up over the chosen instances (OWN). What lies in Redis is exported by
every daemon that touches it: of that the rules record the maximum.
"""

from dataclasses import dataclass

OWN = 'instance=~"$instance"'
RED_ABOVE_0 = ((None, "green"), (1, "red"))


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = "__auto"


@dataclass(frozen=True)
class Panel:
    """`unit` is one of Grafana's. `steps` are (from, colour), the first from nothing."""

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    steps: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """`service`: the daemon whose instances can be chosen; none on the overview."""

    uid: str
    title: str
    text: str
    rows: tuple[Row, ...]
    service: str = ""


def graph(title: str, text: str, *queries: Query, unit: str = "short", width: int = 8, stacked: bool = False) -> Panel:
    return Panel(title, text, queries, unit, width=width, stacked=stacked)


def number(
    title: str,
    text: str,
    expr: str,
    *,
    unit: str = "short",
    steps: tuple[tuple[float | None, str], ...] = ((None, "blue"),),
    width: int = 4,
) -> Panel:
    """A big number with a small history behind it."""
    return Panel(title, text, (Query(expr, ""),), unit, "stat", width=width, height=4, steps=steps)


def states(title: str, text: str, query: Query, *, width: int = 8, good: int = 1) -> Panel:
    """0 and 1 over time."""
    colours = ((None, "red"), (1, "green")) if good else ((None, "green"), (1, "orange"))
    return Panel(title, text, (query,), "bool_yes_no", "state-timeline", width=width, steps=colours)


def per_second(metric: str, by: str = "", legend: str = "", where: str = OWN) -> Query:
    """What a counter rises by, of the chosen instances together."""
    matchers = f"{{{where}}}" if where else ""
    grouped = f"sum by ({by}) " if by else "sum"
    return Query(f"{grouped}(rate({metric}{matchers}[$__rate_interval]))", legend or _by(by))


def in_interval(metric: str, by: str = "", legend: str = "", where: str = OWN) -> Query:
    """How often something rare happened."""
    matchers = f"{{{where}}}" if where else ""
    grouped = f"sum by ({by}) " if by else "sum"
    return Query(f"{grouped}(increase({metric}{matchers}[$__rate_interval]))", legend or _by(by))


def quantile(share: float, metric: str, by: str = "", where: str = OWN) -> Query:
    """Of a histogram, over the chosen instances together."""
    grouped = f"{by}, le" if by else "le"
    legend = f"p{share * 100:g}" + (f" {_by(by)}" if by else "")
    matchers = f"{{{where}}}" if where else ""
    return Query(
        f"histogram_quantile({share}, sum by ({grouped}) (rate({metric}_bucket{matchers}[$__rate_interval])))", legend
    )


def _by(labels: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in labels.split(",")) if labels else "__auto"


def process_row(service: str) -> Row:
    """The same for every daemon: is this process itself in order?"""
    own = f'service="{service}",{OWN}'
    of_each = "{{instance}}"
    return Row(
        "Process",
        (
            graph(
                "Memory",
                "Resident memory of each process.",
                Query(f"process_resident_memory_bytes{{{own}}}", of_each),
                unit="bytes",
            ),
            graph(
                "CPU",
                "Cores in use. A daemon has one event loop, so that near 1 it is at its limit; more replicas help.",
                Query(f"rate(process_cpu_seconds_total{{{own}}}[$__rate_interval])", of_each),
            ),
            graph(
                "Event loop lateness",
                "How late the loop comes back to itself: the wait that every task in the process has as well.",
                quantile(0.99, "sluice_event_loop_lag_seconds", "instance", own),
                unit="s",
            ),
            graph(
                "Log records",
                "By level. An ERROR asks for a person.",
                per_second("sluice_log_messages_total", "level", where=own),
                unit="cps",
            ),
            graph(
                "Open files", "File descriptors; sockets are among them.", Query(f"process_open_fds{{{own}}}", of_each)
            ),
            states(
                "Ready",
                "As /readyz says: it does its work, or waits for what others must mend.",
                Query(f"sluice_ready{{{own}}}", of_each),
            ),
        ),
    )
