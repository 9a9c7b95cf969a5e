"""What a person sees in the terminal: a line of progress while it runs, and tables at the end."""

import json
import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sluice.demo import Result
from sluice.drain import Progress

_STREAMS = {"firehose_live": "live", "label_live": "labels", "repo_backfill": "repos", "firehose_backfill": "backfill"}
LINE_SECONDS = 2.0


class ProgressView:
    """A context: one line that moves on a terminal, a line every two seconds elsewhere. It goes to standard error."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=10, transient=True)
        self._started = time.monotonic()
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._live.stop()

    def show(self, phase: str, progress: Progress) -> None:
        line = self._line(phase, progress)
        if self._live.is_started:
            self._live.update(Text(line))
        elif not self._quiet and time.monotonic() >= self._next_line:
            self._console.print(line, highlight=False, soft_wrap=True)
            self._next_line = time.monotonic() + LINE_SECONDS

    def _line(self, phase: str, progress: Progress) -> str:
        waiting = "  ".join(f"{name} {progress.lengths[stream]:,}" for stream, name in _STREAMS.items())
        share = f"{progress.frames:,} frames"
        extra = f"  handles {progress.look_ups}" if progress.look_ups else ""
        return f"{time.monotonic() - self._started:6.1f} s  {phase}: {share}  |  waiting: {waiting}{extra}"


def print_result(result: Result) -> None:
    console = Console()
    account = result.account
    console.print(_two_columns("in Postgres", "rows", account.rows))
    if account.dropped:
        console.print(_two_columns("left out, with a reason", "events", account.dropped))
    console.print(
        f"{account.frames:,} frames, {account.received:,} events received = {account.written:,} written"
        f" + {account.filtered:,} filtered + {account.received - account.written - account.filtered:,} dropped;"
        f" {result.dead_letters} dead letters; {result.seconds:.1f} s",
        highlight=False,
    )
    if result.changed is not None:
        repos, records = account.backfill["repos_done"], account.backfill["records"]
        changed = (
            f"changed rows in {', '.join(result.changed)}" if result.changed else "changed no row (only revs rose)"
        )
        console.print(f"backfill of {repos} repos with {records:,} records: {changed}", highlight=False)
    for name, url in result.daemons.items():
        console.print(f"{name:18} {url}", highlight=False)
    print_faults(result)


def print_json(result: Result) -> None:
    """One line on standard output."""
    report: dict[str, Any] = result.account.as_json() | {"seconds": round(result.seconds, 2)}
    if result.changed is not None:
        report["backfill"]["changed_tables"] = list(result.changed)
    report["metrics"] = result.daemons
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()
    print_faults(result)


def print_faults(result: Result) -> None:
    for fault in result.account.faults:
        sys.stderr.write(f"not accounted for: {fault}\n")


def _two_columns(title: str, unit: str, counts: Any) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, count in sorted(counts.items()):
        table.add_row(name, f"{count:,}")
    table.add_section()
    table.add_row(f"all {unit}", f"{sum(counts.values()):,}")
    return table
