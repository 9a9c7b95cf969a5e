"""`sluice gaps`: what the sources skipped, and what became of it."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from ingester.gaps import CLOSED, Gap, GapLedger
from sluice.connecting import ingester_redis
from sluice.process_exit import ended_by
from sluice.tables import plain_table, standard_output

gaps_app = typer.Typer()


@gaps_app.callback(invoke_without_command=True)
def list_gaps(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are closed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array on standard output.")] = False,
) -> None:
    """List what relays, labelers and lists of repos skipped and what has not been made good.

    Ends with 0 if there are none, with 1 if there are some, with 2 if Redis does not answer. Configured as the ingester
    is: REDIS_URL (or REDIS_URL_FILE).
    """
    if context.invoked_subcommand is None:
        ended_by(_list(everything=everything, as_json=as_json))


@gaps_app.command()
def close(gap: Annotated[str, typer.Argument(help="As `sluice gaps` calls it.")]) -> None:
    """Close a gap by hand: what was missed has been had in another way, or is not wanted.

    Ends with 0 if it is closed now, with 1 if there is no such gap, with 2 if Redis does not answer.
    """
    ended_by(_close(gap))


async def _list(*, everything: bool, as_json: bool) -> int:
    async with ingester_redis() as redis:
        gaps = await GapLedger(redis).all()
    unclosed = [gap for gap in gaps if gap.state != CLOSED]
    shown = gaps if everything else unclosed
    if as_json:
        sys.stdout.write(json.dumps([{"gap": gap.id, **msgspec.to_builtins(gap)} for gap in shown]) + "\n")
    elif shown:
        standard_output().print(_table(shown))
    else:
        sys.stdout.write("no gap is open\n")
    return 1 if unclosed else 0


def _table(gaps: Sequence[Gap]) -> Table:
    table = plain_table("gap", "#after", "#before", "recorded", "state", "why", "what to do")
    for gap in gaps:
        before = "not yet known" if gap.before is None else str(gap.before)
        table.add_row(gap.id, str(gap.after), before, gap.at, gap.state, gap.why, what_to_do(gap))
    return table


def what_to_do(gap: Gap) -> str:
    """For a person, in a line."""
    if gap.state == CLOSED:
        return ""
    if gap.kind == "future_cursor" and gap.before is None:
        return f"nothing if it passes; else pause the source and: sluice cursor set {gap.host} 0 --force"
    if gap.source == "labeler":
        return "labels cannot be compared; read them all again from cursor 0, then close it"
    if gap.source == "listing":
        return "these repos are not queued by this host; close it when you have looked"
    return "nothing: what differs is queued, and then it is closed"


async def _close(id: str) -> int:
    async with ingester_redis() as redis:
        ledger = GapLedger(redis)
        for gap in await ledger.all():
            if gap.id == id and (gap.state == CLOSED or await ledger.close(gap)):
                sys.stdout.write(f"{id} is closed\n")
                return 0
    sys.stderr.write(f"there is no gap {id}, or it has just changed; `sluice gaps` lists them\n")
    return 1
