"""The command `sluice`: the pipeline on a recorded network, on the live one, or one daemon of it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from common.build import commit, version
from common.daemon import entrypoint
from common.settings import load
from indexer.migrations import migrate as migrate_schema
from indexer.settings import Settings as IndexerSettings
from sluice.audit import run as run_audit
from sluice.backfill_commands import backfill, resync
from sluice.connecting import connected
from sluice.cursor_commands import cursor_app
from sluice.dead_commands import dead_app
from sluice.demo import Demo, Options, Servers
from sluice.gap_commands import gaps_app
from sluice.look_commands import explain, status_app, thresholds, top, verify
from sluice.process_exit import ended_by
from sluice.reindex import reindex
from sluice.replay import replay
from sluice.shell_environment import environment_file
from sluice.show import ProgressView, print_json, print_result
from sluice.source_commands import filter_app, source_app
from sluice.status_backfill import status_backfill
from sluice.status_page import serving
from sluice.up import run as run_up

RECORDINGS = Path(__file__).parent / "recordings"
PAGE_LOOK_SECONDS = 1.0
TRY, RUN, LOOK = "Try it", "Run it", "Look at what runs"
FETCH, STEER = "Fetch, and mend", "Steer the ingester"
SHIPPED = RECORDINGS / "full.tar.zst"

app = typer.Typer(
    help="Carries the AT Protocol network into Postgres: verified, lossless, exact.",
    epilog="Commands end with 0 if all is well, 1 if something needs a look, 2 if they cannot start like this (the line"
    " on standard error says what to do), 130 after Ctrl-C. The daemons are configured by their environment:"
    " docs/settings.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

RedisUrl = Annotated[str, typer.Option(help="A Redis that runs already; without it one is started.")]
PostgresUrl = Annotated[str, typer.Option(help="A Postgres that runs already; without it one is started.")]
Schema = Annotated[str, typer.Option(help="The AppView's schema: created and migrated where it is missing.")]
Keep = Annotated[Path | None, typer.Option(help="Folder for the started servers' data; without it they leave none.")]
Indexers = Annotated[int, typer.Option(min=1, help="How many indexers share the work.")]


Version = Annotated[bool, typer.Option("--version", help="Say the version and the commit, and end.")]


@app.callback(invoke_without_command=True)
def sluice(show_version: Version = False) -> None:
    if show_version:
        typer.echo(f"sluice {version()} ({commit()})")
        raise typer.Exit


@app.command(rich_help_panel=TRY)
def demo(
    recording: Annotated[
        Path, typer.Argument(help="A recording: a folder or a .tar.zst.", show_default=False)
    ] = SHIPPED,
    until_drained: Annotated[bool, typer.Option("--until-drained", help="End when everything is indexed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
    keep: Keep = None,
    postgres_url: PostgresUrl = "",
    redis_url: RedisUrl = "",
    schema: Schema = "bsky",
    indexers: Indexers = 1,
    backfill: Annotated[str, typer.Option(help="Fetch whole repos: after the live events, none, only, or mixed.")] = "",
) -> None:
    """Play a recorded network through the three daemons into Postgres; nothing else needs to run.

    Ends with 0 only if all that the recording holds is accounted for: written, filtered, or dropped with a reason.
    """
    options = Options(recording, Servers(redis_url, postgres_url, schema, keep), indexers, backfill)
    ended_by(_play(options, until_drained=until_drained, as_json=as_json))


@app.command(rich_help_panel=TRY)
def up(
    relay: Annotated[str, typer.Option(help="Relays, separated by commas.")] = "bsky.network",
    plc: Annotated[str, typer.Option(help="The did:plc directory.")] = "https://plc.directory",
    labelers: Annotated[str, typer.Option(help="Labelers, separated by commas.")] = "",
    backfill: Annotated[bool, typer.Option(help="List and fetch every repo of the network as well.")] = False,
    keep: Keep = None,
    postgres_url: PostgresUrl = "",
    redis_url: RedisUrl = "",
    schema: Schema = "bsky",
    indexers: Indexers = 1,
) -> None:
    """Run the same pipeline on the live network, until Ctrl-C."""
    servers = Servers(redis_url, postgres_url, schema, keep)
    ended_by(run_up(servers, relay, plc, labelers, indexers=indexers, backfill=backfill))


@app.command(rich_help_panel=RUN)
def migrate() -> None:
    """Bring a database to the schema that the indexer needs, empty or migrated by an AppView before.

    Configured as the indexer is: DATABASE_URL (or DATABASE_URL_FILE) and DATABASE_SCHEMA.
    """
    ended_by(_migrate())


def audit(
    sample: Annotated[int, typer.Option(min=1, help="Random keys of each aggregate to compare.")] = 10_000,
    all_keys: Annotated[bool, typer.Option("--all", help="Compare every key; this reads all that is counted.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Set what differs to what there is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Compare the counts of post_agg and profile_agg with the rows that they count, while indexers write or not.

    Ends with 0 if they are exact (or repaired), 1 if some differ, 2 if they could not be compared. Configured as the
    indexer is: DATABASE_URL (or DATABASE_URL_FILE) and DATABASE_SCHEMA.
    """
    ended_by(run_audit(os.environ, None if all_keys else sample, repair=repair, as_json=as_json))


@app.command(rich_help_panel=RUN)
def ingester() -> None:
    """Run the ingester, configured by its environment (docs/settings.md)."""
    entrypoint(import_module("ingester.app").main)


@app.command(rich_help_panel=RUN)
def backfiller() -> None:
    """Run a backfiller, configured by its environment (docs/settings.md)."""
    entrypoint(import_module("backfiller.app").main)


@app.command(rich_help_panel=RUN)
def indexer() -> None:
    """Run an indexer, configured by its environment (docs/settings.md)."""
    entrypoint(import_module("indexer.app").main)


async def _play(options: Options, *, until_drained: bool, as_json: bool) -> int:
    view = ProgressView(quiet=as_json)
    async with (
        Demo(options, view.show) as player,
        serving(player.pipeline.addresses, "127.0.0.1", look_seconds=PAGE_LOOK_SECONDS, recorded=True) as page,
    ):
        if not as_json:
            sys.stderr.write(f"the status page: {page}\n")
        with view:
            result = await player.play()
        (print_json if as_json else print_result)(result)
        if not until_drained:
            environment = environment_file(player.pipeline, recorded=True)
            sys.stderr.write("everything is indexed; the daemons stay up until Ctrl-C\n")
            sys.stderr.write(f"for sluice status, explain and others in another terminal:  . {environment}\n")
            with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C is how this is meant to end
                await asyncio.Event().wait()
    return 1 if result.account.faults else 0


async def _migrate() -> int:
    settings = load(IndexerSettings, os.environ, prefix="INDEXER_")
    async with connected(settings.database_url) as connection:
        applied = await migrate_schema(connection, settings.database_schema)
    typer.echo("\n".join(applied) if applied else "nothing to do")
    return 0


_COMMANDS: Mapping[str, tuple[Callable[..., None], ...]] = {
    LOOK: (top, explain, verify, audit, thresholds),
    FETCH: (backfill, resync, replay, reindex),
}
for _panel, _commands in _COMMANDS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
status_app.command("backfill")(status_backfill)
app.add_typer(status_app, name="status", rich_help_panel=LOOK)
app.add_typer(gaps_app, name="gaps", rich_help_panel=LOOK)
app.add_typer(dead_app, name="dead", rich_help_panel=FETCH)
app.add_typer(source_app, name="source", rich_help_panel=STEER)
app.add_typer(filter_app, name="filter", rich_help_panel=STEER)
app.add_typer(cursor_app, name="cursor", rich_help_panel=STEER)


def main() -> None:
    app()
