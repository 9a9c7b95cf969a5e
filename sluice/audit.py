"""`sluice audit`: the counts in Postgres against the rows that they count."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace

import asyncpg
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from common.settings import load
from indexer.app import open_pool
from indexer.audit import Report, audit
from indexer.database import Database
from indexer.refusals import BROKEN
from indexer.settings import Settings
from sluice.tables import plain_table

SHOWN = 20


async def run(environ: Mapping[str, str], sample: int | None, *, repair: bool, as_json: bool) -> int:
    """The answer: 0 if all is exact, or exact now; 1 if there is drift; 2 if Postgres broke off.

    Raises CannotStart.
    """
    settings = load(Settings, environ, prefix="INDEXER_")
    # one statement at a time; and what forgets can be counted too
    settings = replace(settings, pool_size=1, pool_idle=1, data_is_disposable=True)
    async with await open_pool(settings) as pool:
        try:
            with _progress(quiet=as_json) as done:
                report = await audit(Database(pool, settings.database_schema), sample, repair=repair, on_progress=done)
        except (asyncpg.PostgresError, *BROKEN) as error:
            sys.stderr.write(f"the audit broke off: {str(error) or type(error).__name__}\n")
            return 2
    (print_json if as_json else print_report)(report)
    return 0 if report.keys_differing == report.keys_repaired else 1


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    """What to call with each step's keys: on a terminal they are shown adding up, on standard error."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("", total=None, said="")

        def done(keys: int) -> None:
            progress.advance(task, keys)
            progress.update(task, said=f"{progress.tasks[0].completed:,.0f} keys compared")

        yield done


def print_json(report: Report) -> None:
    """One line on standard output."""
    sys.stdout.write(json.dumps(asdict(report)) + "\n")


def print_report(report: Report) -> None:
    console = Console()
    console.print(_columns(report))
    if report.differences:
        console.print(_differences(report))
    console.print(
        f"{report.keys_differing:,} keys differ, {report.keys_repaired:,} of them repaired"
        if report.keys_differing
        else "every count is exact",
        highlight=False,
    )


def _columns(report: Report) -> Table:
    table = plain_table("column", "#checked", "#differing")
    for column, checked in report.checked.items():
        table.add_row(column, f"{checked:,}", f"{report.differing[column]:,}")
    return table


def _differences(report: Report) -> Table:
    differences = sum(report.differing.values())
    shown = report.differences[:SHOWN]
    title = "differences" if differences == len(shown) else f"the first {len(shown)} of {differences:,} differences"
    table = plain_table("column", "key", "#stored", "#counted", title=title)
    for found in shown:
        stored = "no row" if found.stored is None else f"{found.stored:,}"
        table.add_row(f"{found.aggregate}.{found.column}", found.key, stored, f"{found.counted:,}")
    return table
