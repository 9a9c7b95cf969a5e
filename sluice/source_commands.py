"""`sluice source` and `sluice filter`: what the ingester's admin endpoint shows and does."""

import json
import os
import sys
from typing import Annotated, Any

import typer
from aiohttp import ClientError, ClientSession, ClientTimeout

from common.errors import CannotStart
from common.settings import load
from ingester.settings import Settings
from sluice.process_exit import ended_by
from sluice.tables import plain_table, standard_output

SECONDS = 10.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - where to ask one that listens everywhere

_ASKS = (
    "It asks the ingester's admin endpoint, at INGESTER_ADMIN_HOST and INGESTER_ADMIN_PORT or --url, with the token of"
    " INGESTER_ADMIN_TOKEN_FILE. Ends with 0, with 1 if the ingester refuses, with 2 if it cannot be asked."
)
source_app = typer.Typer(no_args_is_help=True, help=f"The hosts that the ingester reads, and pausing them.\n\n{_ASKS}")
filter_app = typer.Typer(no_args_is_help=True, help=f"The collections that the ingester takes.\n\n{_ASKS}")

Url = Annotated[str, typer.Option(help="The endpoint, where the environment does not say.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Name = Annotated[str, typer.Argument(help="As `sluice source list` calls it: firehose/bsky.network.")]


@source_app.command("list")
def list_sources(as_json: AsJson = False, url: Url = "") -> None:
    """List every source: whether it is paused or connected, and its cursor."""
    ended_by(_show("GET", "/sources", None, url, as_json=as_json))


@source_app.command()
def pause(name: Name, as_json: AsJson = False, url: Url = "") -> None:
    """Pause a source: what was read is written, the cursor stays, nothing is lost while the host keeps its events.

    It stays paused over restarts, until it is resumed.
    """
    ended_by(_show("POST", "/sources/pause", {"name": name}, url, as_json=as_json))


@source_app.command()
def resume(name: Name, as_json: AsJson = False, url: Url = "") -> None:
    """Let a paused source go on from its cursor."""
    ended_by(_show("POST", "/sources/resume", {"name": name}, url, as_json=as_json))


@filter_app.command("show")
def show_filter(as_json: AsJson = False, url: Url = "") -> None:
    """Show the collections that go to the streams, and whether the settings say so or somebody since."""
    ended_by(_show("GET", "/filter", None, url, as_json=as_json))


@filter_app.command("set")
def set_filter(
    collections: Annotated[list[str], typer.Argument(help="NSIDs, prefixes that end in .*, or * for all.")],
    as_json: AsJson = False,
    url: Url = "",
) -> None:
    """Take these collections from now on, also after a restart.

    What was filtered away before does not come again: fetch it with a backfill.
    """
    ended_by(_show("PUT", "/filter", {"collections": collections}, url, as_json=as_json))


@filter_app.command("reset")
def reset_filter(as_json: AsJson = False, url: Url = "") -> None:
    """Go back to the filter of INGESTER_COLLECTIONS."""
    ended_by(_show("DELETE", "/filter", None, url, as_json=as_json))


async def _show(method: str, path: str, body: Any, url: str, *, as_json: bool) -> int:
    status, answer = await _ask(method, path, body, url)
    if status != 200:
        sys.stderr.write(f"refused: {answer.get('error', f'HTTP {status}')}\n")
        return 1
    if as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        _print(answer)
    return 0


async def _ask(method: str, path: str, body: Any, url: str) -> tuple[int, dict[str, Any]]:
    """Raises CannotStart."""
    settings = load(Settings, os.environ, prefix="INGESTER_")
    if not url and not settings.admin_port:
        raise CannotStart("where is the ingester's admin endpoint? Set INGESTER_ADMIN_PORT for it and here, or --url")
    url = url or f"http://{ANYWHERE.get(settings.admin_host, settings.admin_host)}:{settings.admin_port}"
    headers = {"Authorization": f"Bearer {settings.admin_token}"} if settings.admin_token else {}
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=SECONDS), headers=headers) as http,
            http.request(method, url.rstrip("/") + path, json=body) as answer,
        ):
            found = json.loads(await answer.read())
            return answer.status, found if isinstance(found, dict) else {}
    except (ClientError, TimeoutError, ValueError) as error:
        raise CannotStart(
            f"no ingester answers at {url}: {str(error) or 'in time'}; check INGESTER_ADMIN_PORT"
        ) from error


def _print(answer: dict[str, Any]) -> None:
    if "sources" in answer:
        table = plain_table("source", "state", "#cursor")
        for row in answer["sources"]:
            table.add_row(row["name"], _state(row), row["cursor"] or "none yet")
        standard_output().print(table)
    elif "collections" in answer:
        origin = "chosen at run time" if answer["chosen"] else "by the settings"
        sys.stdout.write(f"{' '.join(answer['collections'])} ({origin})\n")
    else:
        sys.stdout.write(f"{answer['name']} is {'paused' if answer['paused'] else 'not paused'}\n")


def _state(row: dict[str, Any]) -> str:
    if row["paused"]:
        return "paused"
    return {True: "connected", False: "not connected", None: "runs"}[row["connected"]]
