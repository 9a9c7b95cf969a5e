"""`sluice backfill` and `sluice resync`: repos for the backfillers to fetch, or CAR files to load at once."""

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from backfiller.ledger import Entry, Ledger
from backfiller.outcomes import DONE
from backfiller.settings import Settings
from common.errors import BadInput, CannotStart, GiveUp, TryLater
from common.events import Priority
from common.outbound import Outbound
from common.syntax import is_did
from sluice.backfill_queue import BackfillQueue, Outcomes, Queued
from sluice.car_files import CarLoader, car_files
from sluice.connecting import backfiller_redis
from sluice.process_exit import ended_by
from sluice.rate_column import RateColumn
from sluice.repo_sources import DidFile, Listed, RepoList, RepoSource

OPERATOR = "operator"
PRIORITIES = ("high", "normal")


@dataclass(frozen=True)
class Request:
    """What is asked for; exactly one of the first six is given."""

    dids: list[str]
    file: Path | None
    pds: str
    collection: str
    everything: bool
    car: Path | None
    relay: str
    priority: str
    force: bool
    wait: bool
    restart: bool

    def checked(self) -> "Request":
        """Raises CannotStart."""
        given = [self.dids, self.file, self.pds, self.collection, self.everything, self.car]
        if sum(map(bool, given)) != 1:
            raise CannotStart("name DIDs, or one of --file, --pds, --collection, --all, --car")
        if self.priority not in ("", *PRIORITIES):
            raise CannotStart(f"--priority {self.priority}: choose high or normal")
        if wrong := [text for text in self.dids if not is_did(text)]:
            raise CannotStart(f"{wrong[0]!r} is no DID; it looks like did:plc:ewvi7nxzyoun6zhxrhs64oiz")
        if self.wait and not (self.dids or self.file):
            raise CannotStart("--wait needs DIDs, or --file")
        return self


def backfill(
    dids: Annotated[list[str] | None, typer.Argument(metavar="DID", help="The repos of these accounts.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file with a DID at the beginning of each line.")] = None,
    pds: Annotated[str, typer.Option(help="All repos of this PDS: a host, or a URL.")] = "",
    collection: Annotated[str, typer.Option(help="All repos that the relay knows to have records of this NSID.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All repos that the relay lists.")] = False,
    car: Annotated[Path | None, typer.Option(help="Load this CAR file, or all of a folder; no download.")] = None,
    relay: Annotated[str, typer.Option(help="Whom to ask for lists.")] = "bsky.network",
    priority: Annotated[str, typer.Option(help="high or normal; DIDs that are named are high.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also what is done at the rev that its list names.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is known what became of each.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Do not go on where this was interrupted.")] = False,
) -> None:
    """Queue repos for the backfillers, or load CAR files through the same verification.

    It waits while the queue is full. Interrupted, the same command goes on where it was. DIDs that are named are
    fetched in any case; of a list, those that are done at the rev which it names are left out unless --force.

    Ends with 0 if all is queued (with --wait or --car: done), 1 if not, 2 if it cannot start, 130 after Ctrl-C.
    Configured as the backfiller is: REDIS_URL, PLC_URL, OUTBOUND_ALLOW, BACKFILLER_*.
    """
    wanted = Request(
        dids or [], file, pds, collection, everything, car, relay, priority, force=force, wait=wait, restart=restart
    )
    ended_by(_backfill(wanted))


def resync(
    dids: Annotated[list[str], typer.Argument(metavar="DID", help="Whose repos to fetch anew.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until it is known what became of each.")] = False,
) -> None:
    """Fetch these repos anew, before all others: what is missing comes, what is gone goes.

    Ends as `sluice backfill` does.
    """
    wanted = Request(dids, None, "", "", False, None, "", "high", force=True, wait=wait, restart=False)
    ended_by(_backfill(wanted))


async def _backfill(request: Request) -> int:
    request.checked()
    async with backfiller_redis() as (redis, settings), AsyncExitStack() as stack:
        outbound = await stack.enter_async_context(Outbound(allow=settings.outbound_allow))
        try:
            if request.car:
                return await _load(CarLoader(redis, settings, outbound), request.car, force=request.force)
            return await _queue(request, redis, settings, outbound)
        except (TryLater, BadInput, GiveUp) as error:
            sys.stderr.write(f"{error}; the same command goes on where this one stopped\n")
            return 1


async def _queue(request: Request, redis: Redis, settings: Settings, outbound: Outbound) -> int:
    priority: Priority = "high" if (request.priority or ("high" if request.dids else "normal")) == "high" else "normal"
    queue = BackfillQueue(redis, settings, priority, reason=OPERATOR, force=request.force, on_full=_say_it_waits)
    source = _source(request, outbound)
    if request.restart and source:
        await queue.begin_again(source)
    dids = request.dids or (source.dids if isinstance(source, DidFile) and request.wait else [])
    outcomes = Outcomes(Ledger(redis, settings.backfill_stream), dids)
    await outcomes.remember()
    queued = Queued(jobs=len(request.dids))
    if source is None:
        await queue.put([Listed(did) for did in dict.fromkeys(request.dids)])
    else:
        await _put_all(queue, source, queued)
    unusable = f", {queued.unusable:,} lines or rows are no DID" if queued.unusable else ""
    sys.stdout.write(f"{queued.jobs:,} jobs are on {queue.stream}{unusable}\n")
    return await _wait(outcomes) if request.wait else 0


def _source(request: Request, outbound: Outbound) -> RepoSource | None:
    if request.dids:
        return None
    if request.file:
        return DidFile(request.file)
    return RepoList(outbound, request.pds or request.relay, request.collection)


async def _put_all(queue: BackfillQueue, source: RepoSource, queued: Queued) -> None:
    if cursor := await queue.cursor(source):
        sys.stderr.write(f"going on after {cursor} (--restart begins again)\n")
    with progress("queued") as bar:
        before = int(cursor) if source.total and cursor.isdecimal() else 0
        task = bar.add_task("queued", total=source.total, completed=before)
        try:
            await queue.put_all(source, queued, lambda: bar.update(task, completed=before + queued.jobs))
        except asyncio.CancelledError:
            sys.stderr.write(f"interrupted after {queued.jobs:,}; the same command goes on there\n")
            raise


def _say_it_waits(stream: str) -> None:
    sys.stderr.write(f"{stream} is full, or Redis: waiting until backfillers have fetched some\n")


async def _wait(outcomes: Outcomes) -> int:
    with progress("done") as bar:
        task = bar.add_task("done", total=outcomes.total)
        await outcomes.wait(lambda: bar.update(task, completed=len(outcomes.found)))
    for did, entry in outcomes.found.items():
        sys.stdout.write(f"{did}  {told(entry)}\n")
    return 0 if outcomes.all_done else 1


async def _load(loader: CarLoader, path: Path, *, force: bool) -> int:
    files = car_files(path)
    failed = 0
    with progress("loaded") as bar:
        task = bar.add_task("loaded", total=len(files))
        for number, file in enumerate(files, 1):
            try:
                did, entry = await loader.load(file, force=force)
                bar.console.print(f"{did}  {told(entry)}", highlight=False)
            except (TryLater, BadInput, GiveUp) as error:
                failed += 1
                bar.console.print(f"{file.name}  {error}", highlight=False, style="red")
            bar.update(task, completed=number)
    sys.stdout.write(f"{len(files) - failed:,} of {len(files):,} files are loaded\n")
    return 1 if failed else 0


def told(entry: Entry) -> str:
    """An outcome in a line."""
    if entry.outcome != DONE:
        return entry.outcome + (f" ({entry.note})" if entry.note else "")
    leaves = entry.emitted + entry.filtered + entry.failed
    parts = f"{entry.emitted:,} emitted + {entry.filtered:,} filtered + {entry.failed:,} unreadable"
    return f"done at {entry.rev}: {leaves:,} records = {parts}"


def progress(verb: str) -> Progress:
    """A bar with rate and remaining time, on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
