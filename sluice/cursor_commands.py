"""`sluice cursor`: where the ingester is with each host, and setting it by hand or to what goes with a backup."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.streams import FIREHOSE_LIVE, REPO_BACKFILL
from ingester.cursors import LISTING_DONE
from sluice import saved_cursors
from sluice.connecting import ingester_redis
from sluice.cursors import STREAMS, Refused, all_cursors, cursor, move, refuse_if_read
from sluice.process_exit import ended_by
from sluice.tables import plain_table, standard_output

cursor_app = typer.Typer(
    no_args_is_help=True, help="Where the ingester is with each host.\n\nConfigured as the ingester is: REDIS_URL."
)
Host = Annotated[str, typer.Argument(help="As `sluice cursor show` calls it: bsky.network.")]
Stream = Annotated[str, typer.Option(help=f"Which of the host's cursors: {', '.join(STREAMS)}.")]


@cursor_app.command()
def show(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array on standard output.")] = False,
) -> None:
    """List every cursor, and whether an ingester reads from it now."""
    ended_by(_show(as_json=as_json))


@cursor_app.command("set")
def set_cursor(
    host: Host,
    seq: Annotated[str, typer.Argument(help="The last event that is taken for read; 0 is before the oldest one.")],
    stream: Stream = FIREHOSE_LIVE,
    force: Annotated[bool, typer.Option("--force", help="Move a cursor that is there, forward or back.")] = False,
) -> None:
    """Set a cursor by hand, while no ingester reads from it.

    Set forward, the events in between are missed: that is a gap, which stands in the ledger (`sluice gaps`) and is
    compared. Set back, events come again, which changes nothing. Ends with 0 if it is set, with 1 if it was refused.
    """
    ended_by(_set(host if host.startswith("did:") else host.lower(), seq, stream, force=force))


@cursor_app.command()
def save() -> None:
    """Print the positions that go with a backup of Postgres that begins now (ops/backup).

    Ends when all that they cover is in Postgres: an indexer must be running.
    """
    ended_by(_save())


@cursor_app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `sluice cursor save` printed; - for standard input.")],
    list_again: Annotated[
        bool, typer.Option("--list-again", help="Also forget what is known of each repo: all are fetched again.")
    ] = False,
) -> None:
    """Set the cursors to a backup after Postgres was restored from it, so that what came later is read again.

    While no ingester reads from them (ops/restore stops it). Each that is moved stands in the ledger (`sluice gaps
    --all`). Ends with 0 if they are set, with 1 if that was refused.
    """
    ended_by(_restore(file, list_again=list_again))


async def _show(*, as_json: bool) -> int:
    async with ingester_redis() as redis:
        found = await all_cursors(redis)
    if as_json:
        rows = [
            {"stream": each.stream, "host": each.host, "cursor": each.position, "is_read": each.is_read}
            for each in found
        ]
        sys.stdout.write(json.dumps(rows) + "\n")
        return 0
    if not found:
        sys.stdout.write("there is no cursor yet: no ingester has stored anything in this Redis\n")
        return 0
    table = plain_table("stream", "host", "cursor", "read from now")
    for each in found:
        position = "listed to its end" if each.position == LISTING_DONE else each.position
        table.add_row(each.stream, each.host, position, "yes" if each.is_read else "no")
    standard_output().print(table)
    return 0


async def _set(host: str, seq: str, stream: str, *, force: bool) -> int:
    if stream not in STREAMS:
        return _refused(f"--stream {stream}: choose one of {', '.join(STREAMS)}")
    if stream != REPO_BACKFILL and not (seq.isascii() and seq.isdecimal()):
        return _refused(f"{seq!r} is no sequence number")
    async with ingester_redis() as redis:
        found = await cursor(redis, stream, host)
        try:
            refuse_if_read(found)
            if found.position not in ("", seq) and not force:
                raise Refused(f"{found.key} is {found.position}: --force moves it to {seq}")
            sys.stdout.write(await move(redis, found, seq, by="by hand") + "\n")
        except Refused as refusal:
            return _refused(str(refusal))
    return 0


async def _save() -> int:
    async with ingester_redis() as redis:
        sys.stdout.write(json.dumps(await saved_cursors.save(redis)) + "\n")
    return 0


async def _restore(file: Path, *, list_again: bool) -> int:
    saved = saved_cursors.read(Path("/dev/stdin") if file == Path("-") else file)
    async with ingester_redis() as redis:
        try:
            done = await saved_cursors.restore(redis, saved, list_again=list_again)
        except Refused as refusal:
            return _refused(str(refusal))
    sys.stdout.write("".join(f"{sentence}\n" for sentence in done))
    return 0


def _refused(message: str) -> int:
    sys.stderr.write(f"refused: {message}\n")
    return 1
