"""Commands for upkeep: limits of alerts, and what goes with a backup."""

import os
from pathlib import Path
from typing import Annotated

import typer

from sluice import cursors
from sluice.process_exit import ended_by
from sluice.thresholds import run as run_thresholds


def thresholds(
    prometheus: Annotated[str, typer.Option(help="A Prometheus that has our rules.")] = "http://127.0.0.1:9090",
    hours: Annotated[int, typer.Option(min=1, help="How far to look back.")] = 24,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Show the limits of alerts beside what was measured, and what they could be. Change them in ops/rules/.

    Ends with 0, with 1 if a limit was reached for more than a moment, with 2 if there is nobody to ask.
    """
    ended_by(run_thresholds(prometheus, hours, as_json=as_json))


def save_cursors() -> None:
    """Print the positions that go with a backup of Postgres that begins now (ops/backup).

    Ends when all that they cover is in Postgres: an indexer must be running. Configured as the ingester is: REDIS_URL.
    """
    ended_by(cursors.print_saved(os.environ))


def restore_cursors(
    file: Annotated[Path, typer.Argument(help="What save-cursors printed; - for standard input.")],
    list_again: Annotated[
        bool, typer.Option("--list-again", help="Also forget what is known of each repo: all are fetched again.")
    ] = False,
) -> None:
    """Set the positions back after Postgres was restored, so that what came later is read again (ops/restore)."""
    ended_by(cursors.set_back(os.environ, file, list_again=list_again))
