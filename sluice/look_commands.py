"""Commands that look: status, top, explain, verify and thresholds."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
from rich.console import Console
from rich.live import Live

from common.errors import CannotStart
from sluice.explain import run as run_explain
from sluice.flow import Flow
from sluice.history import History
from sluice.process_exit import ended_by
from sluice.report import OK, WAITING, document
from sluice.status_page import PORT, serving
from sluice.tables import standard_output
from sluice.targets import addresses, look
from sluice.terminal import status_view, top_view
from sluice.thresholds import run as run_thresholds
from sluice.verify import Plan
from sluice.verify import run as run_verify

BETWEEN_LOOKS_SECONDS = 1.0
TARGETS = ("localhost:4100", "localhost:9090")

Targets = Annotated[
    list[str],
    typer.Option("--target", "-t", envvar="SLUICE_TARGETS", help="host:port of a daemon's metrics; once for each."),
]
Recorded = Annotated[
    bool,
    typer.Option("--recorded", envvar="SLUICE_RECORDED", help="Of a recorded network: events are old as they are."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]

status_app = typer.Typer(invoke_without_command=True)


@status_app.callback()
def status(
    context: typer.Context,
    target: Targets = list(TARGETS),  # noqa: B006 - typer copies it
    recorded: Recorded = False,
    as_json: AsJson = False,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the status page until Ctrl-C.")] = False,
    host: Annotated[str, typer.Option(help="Address that the page is served at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 is any that is free.")] = PORT,
) -> None:
    """How the pipeline is: one look at all its daemons, or a page that shows it and the last hour.

    Ends with 0 if all is well (a full stream is), 1 if something needs a look, 2 if no daemon answers.

    The page has no secrets and changes nothing, but it names hosts and accounts: who may not see them should not reach
    it. Behind a proxy with TLS and a password it may be served to others; it needs nothing from elsewhere.
    """
    if context.invoked_subcommand:
        return
    targets = addresses(target)
    if serve:
        ended_by(_serve(targets, host, port, recorded=recorded))
    ended_by(_status(targets, recorded=recorded, as_json=as_json))


def top(target: Targets = list(TARGETS), recorded: Recorded = False) -> None:  # noqa: B006 - typer copies it
    """How the pipeline is, every second, until Ctrl-C. Where the output is no terminal, it is printed each time."""
    ended_by(_top(addresses(target), recorded=recorded))


def explain(
    what: Annotated[str, typer.Argument(help="A DID, a handle, or the at:// URI of a record.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """The story of one account or record: what is stored, at which rev, what is still to be done, what went wrong.

    Ends with 0 if anything is known, 1 if nothing is. Configured as the indexer is: DATABASE_URL, DATABASE_SCHEMA and
    REDIS_URL. It only reads.
    """
    ended_by(run_explain(os.environ, what, as_json=as_json))


def verify(
    target: Targets = list(TARGETS),  # noqa: B006 - typer copies it
    within: Annotated[float, typer.Option(min=1, help="Seconds that an event may take into Postgres.")] = 60.0,
    event: Annotated[bool, typer.Option(help="Send a made-up event through, and remove it again.")] = True,
    prometheus: Annotated[str, typer.Option(help="URL of a Prometheus, to look at its targets and rules.")] = "",
    dashboards: Annotated[Path | None, typer.Option(help="Folder of dashboards whose queries it is asked.")] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a running deployment from end to end: a line for each step, and 0 only if none failed.

    Every target is ready and exports every metric of the contract; what must move has moved; a made-up record gets
    from firehose_live into Postgres in time, and is removed without a trace. With --prometheus: its targets are up,
    its rules healthy, and the dashboards' queries answer. Configured as the indexer is: REDIS_URL, DATABASE_URL and
    DATABASE_SCHEMA.
    """
    plan = Plan(addresses(target), within, event, prometheus, dashboards)
    ended_by(run_verify(os.environ, plan, as_json=as_json))


def thresholds(
    prometheus: Annotated[str, typer.Option(help="A Prometheus that has our rules.")] = "http://127.0.0.1:9090",
    hours: Annotated[int, typer.Option(min=1, help="How far to look back.")] = 24,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Show the limits of alerts beside what was measured, and what they could be. Change them in ops/rules/.

    Ends with 0, with 1 if a limit was reached for more than a moment, with 2 if there is nobody to ask.
    """
    ended_by(run_thresholds(prometheus, hours, as_json=as_json))


async def _status(targets: Sequence[str], *, recorded: bool, as_json: bool) -> int:
    """Two looks, for rates need both."""
    history = History()
    async with aiohttp.ClientSession() as http:
        history.add(await look(http, targets, recorded=recorded))
        await asyncio.sleep(BETWEEN_LOOKS_SECONDS)
        flow = await look(http, targets, recorded=recorded)
    history.add(flow)
    _some_must_answer(flow)
    shown = document(flow, history)
    if as_json:
        sys.stdout.write(json.dumps(shown) + "\n")
    else:
        standard_output().print(status_view(shown))
    return 0 if shown["state"] in (OK, WAITING) else 1


async def _top(targets: Sequence[str], *, recorded: bool) -> int:
    console, history = Console(), History()
    live = Live(console=console, screen=True, auto_refresh=False)
    async with aiohttp.ClientSession() as http:
        with live if console.is_terminal else nullcontext():
            while True:
                flow = await look(http, targets, recorded=recorded)
                history.add(flow)
                view = top_view(document(flow, history), history.series())
                if console.is_terminal:
                    live.update(view, refresh=True)
                else:
                    console.print(view)
                await asyncio.sleep(BETWEEN_LOOKS_SECONDS)


async def _serve(targets: Sequence[str], host: str, port: int, *, recorded: bool) -> int:
    async with serving(lambda: targets, host, port, recorded=recorded) as url:
        sys.stderr.write(f"the status page: {url} (Ctrl-C ends it)\n")
        await asyncio.Event().wait()
    return 0


def _some_must_answer(flow: Flow) -> None:
    if not any(daemon.is_up for daemon in flow.daemons):
        asked = "; ".join(f"{daemon.address} {daemon.complaint}" for daemon in flow.daemons)
        raise CannotStart(
            f"no daemon answers ({asked}). Name their metrics ports: --target host:port, or SLUICE_TARGETS"
        )
