"""`sluice cursor`: where the ingester is with each host, and setting it by hand."""

import json
import sys
from typing import Annotated, Any

import typer
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from common.streams import FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL
from ingester.accounts import FIREHOSE, LABELER, LISTING
from ingester.gaps import CLOSED, Gap, GapLedger
from ingester.switches import reading_key
from sluice.ingester_redis import ingester_redis
from sluice.process_exit import ended_by

STREAMS = {FIREHOSE_LIVE: FIREHOSE.name, LABEL_LIVE: LABELER.name, REPO_BACKFILL: LISTING.name}

# KEYS: cursor, who reads. ARGV: what should stand there ('' for nothing), what shall.
_SET = """
if redis.call('EXISTS', KEYS[2]) == 1 or (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

cursor_app = typer.Typer(
    no_args_is_help=True, help="Where the ingester is with each host. Configured as the ingester is."
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


async def _show(*, as_json: bool) -> int:
    async with ingester_redis() as redis:
        rows = [row for stream in STREAMS for row in await _rows(redis, stream)]
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return 0
    table = Table("stream", "host", "cursor", "read from now")
    for row in rows:
        table.add_row(row["stream"], row["host"], row["cursor"], "yes" if row["is_read"] else "no")
    Console().print(table)
    return 0


async def _rows(redis: Redis, stream: str) -> list[dict[str, Any]]:
    start = f"{stream}:cursor:"
    keys = sorted([key.decode() async for key in redis.scan_iter(match=f"{start}*", count=1000)])
    rows = []
    for key in keys:
        cursor: Any = await redis.get(key)
        is_read = bool(await redis.exists(reading_key(key)))
        host, text = key.removeprefix(start), (cursor or b"").decode(errors="replace")
        rows.append({"stream": stream, "host": host, "cursor": text, "is_read": is_read})
    return rows


async def _set(host: str, seq: str, stream: str, *, force: bool) -> int:
    if stream not in STREAMS:
        return _refused(f"--stream {stream}: choose one of {', '.join(STREAMS)}")
    if stream != REPO_BACKFILL and not (seq.isascii() and seq.isdecimal()):
        return _refused(f"{seq!r} is no sequence number")
    key = f"{stream}:cursor:{host}"
    async with ingester_redis() as redis:
        stored: Any = await redis.get(key)
        before = (stored or b"").decode(errors="replace")
        if await redis.exists(reading_key(key)):
            name = f"{STREAMS[stream]}/{host}"
            return _refused(
                f"an ingester reads from {host}: stop it, or sluice source pause {name}; wait 15 s if killed"
            )
        if before and before != seq and not force:
            return _refused(f"{key} is {before}: --force moves it to {seq}")
        if before == seq:
            sys.stdout.write(f"{key} is {seq} already\n")
            return 0
        return await _move(redis, Gap(source=STREAMS[stream], host=host, **_skipped(before, seq)), key, before, seq)


def _skipped(before: str, seq: str) -> dict[str, Any]:
    """What the ledger says of it. Where events come again, or none were promised yet, there is nothing to make good."""
    old, new = (int(text) if text.isdecimal() else 0 for text in (before, seq))
    if before and new > old:
        return {"kind": "cursor_set", "after": old, "why": f"set forward by hand from {before} to {seq}"}
    why = f"set back by hand from {before} to {seq}: events come again" if before else f"set by hand to {seq}"
    return {"kind": "cursor_set", "after": old, "before": new, "why": why, "state": CLOSED}


async def _move(redis: Redis, gap: Gap, key: str, before: str, seq: str) -> int:
    """In the ledger first: a cursor that is past something must never be alone in knowing it."""
    ledger = GapLedger(redis)
    await ledger.record(gap)
    if not await redis.eval(_SET, 2, key, reading_key(key), before, seq):
        for recorded in await ledger.all():
            if recorded.id == gap.id:
                await ledger.close(recorded)
        return _refused(f"{key} has changed meanwhile, or an ingester has begun to read; try again")
    sys.stdout.write(f"{key} was {before or 'not there'} and is {seq}; {gap.why}\n")
    return 0


def _refused(message: str) -> int:
    sys.stderr.write(f"refused: {message}\n")
    return 1
