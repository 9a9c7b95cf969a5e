"""`sluice dead`: what was given up, why, and what to do about it."""

import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import typer
from redis.asyncio import Redis
from rich.table import Table

from backfiller.settings import Settings
from common.errors import BadInput, CannotStart
from common.settings import load
from indexer.settings import Settings as IndexerSettings
from sluice.connecting import backfiller_redis
from sluice.dead_letters import KINDS, RECORD, DeadLetters, Letter, RepoLetters, chosen, record_letters
from sluice.frame_letters import FrameLetters
from sluice.process_exit import ended_by
from sluice.tables import plain_table, standard_output

dead_app = typer.Typer(no_args_is_help=True, help="Dead letters: repos and frames given up, entries Postgres refused.")

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `sluice dead list` shows them.")]
Kind = Annotated[str, typer.Option(help="repo, record or frame; all without it.")]
Reason = Annotated[str, typer.Option(help="Those with this reason.")]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
Action = Callable[[DeadLetters, Letter], Awaitable[None]]


@dead_app.command("list")
def list_letters(
    kind: Kind = "",
    reason: Reason = "",
    limit: Annotated[int, typer.Option(min=1, help="Show so many of each kind, the oldest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the dead letters, and how many there are by reason.

    Configured as the daemons are: REDIS_URL, DATABASE_URL and DATABASE_SCHEMA. Ends with 0, or 2 if it cannot start.
    """
    ended_by(_list(kind, reason, limit, as_json=as_json))


@dead_app.command()
def show(ids: Annotated[list[str], typer.Argument(metavar="ID", help="As `sluice dead list` shows them.")]) -> None:
    """Show dead letters whole: what each try ended with, and the entry as it came. Ends with 1 if there is no such."""
    ended_by(_show(ids))


@dead_app.command()
def replay(ids: Ids = None, kind: Kind = "", reason: Reason = "", everything: Everything = False) -> None:
    """Put dead letters back on the streams they came from. A repo begins again with all its tries; frames stay.

    Ends with 0, 1 if an id is not there or a letter cannot be replayed, 2 if it cannot start.
    """
    ended_by(_act(lambda where, letter: where.replay(letter), "replayed", ids or [], kind, reason, everything))


@dead_app.command()
def drop(ids: Ids = None, kind: Kind = "", reason: Reason = "", everything: Everything = False) -> None:
    """Delete dead letters for good. Ends with 0, 1 if an id is not there, 2 if it cannot start."""
    ended_by(_act(lambda where, letter: where.drop(letter), "dropped", ids or [], kind, reason, everything))


async def _list(kind: str, reason: str, limit: int, *, as_json: bool) -> int:
    reasons: Counter[tuple[str, str]] = Counter()
    shown: list[Letter] = []
    async with _places(kind) as places:
        for place in places:
            left = limit
            async for letter in place.letters():
                if reason and letter.reason != reason:
                    continue
                reasons[letter.kind, letter.reason] += 1
                if left:
                    shown.append(letter)
                    left -= 1
    if as_json:
        for letter in shown:
            sys.stdout.write(json.dumps(_brief(letter)) + "\n")
        return 0
    if shown:
        standard_output().print(_table(shown))
    counts = ", ".join(f"{kind} {why}: {number:,}" for (kind, why), number in sorted(reasons.items()))
    sys.stdout.write(f"{counts or 'no dead letters'}\n")
    return 0


async def _show(ids: list[str]) -> int:
    found: set[str] = set()
    async with _places("") as places:
        for place in places:
            async for letter in place.letters():
                if chosen(letter, ids, "", everything=False):
                    found |= {letter.id, letter.number}
                    payload = letter.payload.decode(errors="replace")
                    whole = {**_brief(letter), "history": letter.history, "stream": letter.stream, "payload": payload}
                    sys.stdout.write(json.dumps(whole, indent=2) + "\n")
    return _missing(ids, found)


async def _act(action: Action, verb: str, ids: list[str], kind: str, reason: str, everything: bool) -> int:
    if sum(map(bool, (ids, reason, everything))) != 1:
        raise CannotStart("name ids, or --reason, or --all")
    found: set[str] = set()
    done = refused = 0
    async with _places(kind) as places:
        for place in places:
            async for letter in place.letters():
                if not chosen(letter, ids, reason, everything=everything):
                    continue
                found |= {letter.id, letter.number}
                try:
                    await action(place, letter)
                    done += 1
                except BadInput as error:
                    refused += 1
                    sys.stderr.write(f"{letter.id}: {error}; it can only be dropped\n")
    sys.stdout.write(f"{done:,} {verb}\n")
    return 1 if refused else _missing(ids, found)


def _missing(ids: list[str], found: set[str]) -> int:
    missing = [id for id in ids if id not in found]
    for id in missing:
        sys.stderr.write(f"{id}: there is no such dead letter\n")
    return 1 if missing else 0


@asynccontextmanager
async def _places(kind: str) -> AsyncIterator[list[DeadLetters]]:
    """Raises CannotStart."""
    if kind not in ("", *KINDS):
        raise CannotStart(f"--kind {kind}: choose repo, record or frame")
    async with backfiller_redis() as (redis, settings), AsyncExitStack() as stack:
        yield [place for place in await _opened(redis, settings, kind, stack) if kind in ("", place.kind)]


async def _opened(redis: Redis, settings: Settings, kind: str, stack: AsyncExitStack) -> list[DeadLetters]:
    places: list[DeadLetters] = [RepoLetters(redis, settings), FrameLetters(redis)]
    if kind in ("", RECORD):
        indexer = load(IndexerSettings, os.environ, prefix="INDEXER_")
        records = record_letters(redis, indexer.database_url, indexer.database_schema)
        try:
            places.append(await stack.enter_async_context(records))
        except CannotStart as refusal:
            raise CannotStart(f"{refusal} (--kind repo and --kind frame need no Postgres)") from None
    return places


def _brief(letter: Letter) -> dict[str, str]:
    return {
        "id": letter.id,
        "about": letter.about,
        "reason": letter.reason,
        "error": letter.error,
        "since": letter.since,
    }


def _table(letters: list[Letter]) -> Table:
    table = plain_table("id", "about", "reason", "error", "since")
    for letter in letters:
        table.add_row(letter.id, letter.about, letter.reason, letter.error[:100], letter.since)
    return table
