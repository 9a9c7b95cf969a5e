"""`sluice replay`: a range of what a relay still has, once more onto firehose_live, beside the live events."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Protocol

import typer
from aiohttp import ClientSession
from redis.asyncio import Redis

from common.backpressure import Room
from common.collection_filter import CollectionFilter
from common.errors import BadInput, CannotStart
from common.events import EVENT_FIELD, encode_event
from common.outbound import Outbound
from common.settings import load
from common.streams import FIREHOSE_LIVE, StreamWriter
from indexer.lexicon_formats import normalised
from ingester.accounts import FIREHOSE, Account
from ingester.connection import Reading
from ingester.controls import LiveFilter
from ingester.cursors import cursor_key
from ingester.frames import events_of
from ingester.framing import FrameResult
from ingester.metrics import HostMeter
from ingester.reading_ahead import PlainReader, ReadAhead
from ingester.settings import Settings
from ingester.subscription import Subscription, websocket_client
from ingester.upstream import Upstream, upstreams
from ingester.verified_reading import verified_reading
from sluice.backfill_commands import progress
from sluice.connecting import ingester_redis
from sluice.process_exit import ended_by

BATCH = 500
TRIES = 6
IDLE_SECONDS = 15.0
Take = Callable[[FrameResult], Awaitable[bool]]


def replay(
    start: Annotated[str, typer.Option("--from", help="A cursor, or a time: 2026-11-20T12:00:00Z.")],
    to: Annotated[str, typer.Option(help="The same; without it, where the ingester is.")] = "",
    relay: Annotated[str, typer.Option(help="Whose events; without it the ingester's first relay.")] = "",
) -> None:
    """Read a range of the relay's events again, while live events flow.

    They are verified as the ingester does it, and what is known already changes nothing. Interrupted, the same command
    goes on where it was. Ends with 0 if all is on firehose_live, 1 if the relay breaks off, 2 if it cannot start, 130
    after Ctrl-C. Configured as the ingester is.
    """
    ended_by(_replay(start, to, relay))


async def _replay(start: str, to: str, relay: str) -> int:
    settings = load(Settings, os.environ, prefix="INGESTER_")
    host = upstreams("--relay", (relay or settings.relay_hosts[0],))[0]
    wanted = CollectionFilter(settings.collections)
    outbound = Outbound(allow=settings.outbound_allow)
    async with ingester_redis() as redis, websocket_client() as http, outbound:
        here: Any = await redis.get(cursor_key(FIREHOSE_LIVE, host.host))
        if not to and not here:
            raise CannotStart(f"no ingester reads from {host.host}: say how far to go with --to")
        unread = _Events(http, host, partial(ReadAhead, PlainReader(partial(events_of, is_wanted=wanted)), None))
        end = await _sequence(unread, to or (here or b"").decode(), int(here or 0))
        begin = await _sequence(unread, start, end)
        if begin >= end:
            raise CannotStart(f"--from is cursor {begin}, --to is {end}: there is nothing between")
        writer = StreamWriter(redis, FIREHOSE_LIVE, EVENT_FIELD, _room(redis, settings))
        async with verified_reading(settings, redis, outbound, LiveFilter(wanted), workers=0) as reading:
            return await Copy(redis, writer, host, begin, end).run(_Events(http, host, reading))


def _room(redis: Redis, settings: Settings) -> Room:
    return Room(redis, FIREHOSE_LIVE, settings.high_water_mark, memory_share=settings.memory_share)


class Events(Protocol):
    async def after(self, cursor: int, take: Take) -> float:
        """Until `take` says that it has enough, or the connection ends: then the seconds to wait, else -1."""
        ...


class _Events:
    """The relay's frames after a cursor."""

    def __init__(self, http: ClientSession, host: Upstream, reading: Reading) -> None:
        self._subscription = Subscription(
            http,
            f"{host.websocket_url}/xrpc/com.atproto.sync.subscribeRepos",
            reading,
            idle_seconds=IDLE_SECONDS,
            account=Account(FIREHOSE),
            meter=HostMeter(FIREHOSE.name, host.host),
        )

    async def after(self, cursor: int, take: Take) -> float:
        enough = asyncio.Event()

        async def deliver(result: FrameResult) -> None:
            if not enough.is_set() and await take(result):
                enough.set()

        session = asyncio.create_task(self._subscription.session(cursor, deliver))
        waiting = asyncio.create_task(enough.wait())
        try:
            await asyncio.wait((session, waiting), return_when=asyncio.FIRST_COMPLETED)
            return session.result() if session.done() and not enough.is_set() else -1.0
        finally:
            for task in (session, waiting):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def first_after(self, cursor: int) -> FrameResult | None:
        found: list[FrameResult] = []

        async def take(result: FrameResult) -> bool:
            found.append(result)
            return True

        await self.after(cursor, take)
        return found[0] if found else None


async def _sequence(events: _Events, text: str, newest: int) -> int:
    """The cursor that a cursor or a time means: with a time, the last event before it. Raises CannotStart."""
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        wanted = normalised(text)
    except BadInput as error:
        raise CannotStart(f"{text!r} is no cursor, nor a time such as 2026-11-20T12:00:00Z") from error
    before, after = 0, newest
    while after - before > 1:
        middle = (before + after) // 2
        found = await events.first_after(middle)
        if found is not None and found.time and normalised(found.time) < wanted:
            before = min(found.seq, after)
        else:
            after = middle
    first = await events.first_after(before)
    return before if first is None or normalised(first.time) >= wanted else first.seq


class Copy:
    """One range. Where it is stands in Redis beside the stream, and moves with what is written."""

    def __init__(self, redis: Redis, writer: StreamWriter, host: Upstream, begin: int, end: int) -> None:
        self._redis = redis
        self._writer = writer
        self._key = f"{FIREHOSE_LIVE}:replay:{host.host}:{begin}-{end}"
        self._begin = begin
        self._end = end
        self._stored = ""
        self._last = begin
        self._payloads: list[bytes] = []
        self._written = 0
        self._stop = asyncio.Event()

    async def run(self, events: Events) -> int:
        """The exit code."""
        stored = await self._redis.get(self._key)
        self._stored = stored.decode() if isinstance(stored, bytes) else ""
        self._last = int(self._stored or self._begin)
        tries = 0
        with progress("events again") as bar:
            task = bar.add_task("cursor", total=self._end - self._begin)
            while self._last < self._end and tries < TRIES:
                before = self._last
                wait_seconds = await events.after(self._last, self._take)
                await self._flush()
                bar.update(task, completed=self._last - self._begin)
                tries = 0 if self._last > before else tries + 1
                if wait_seconds > 0 and self._last < self._end:
                    await asyncio.sleep(wait_seconds)
        if self._last < self._end:
            sys.stderr.write(f"the relay broke off at {self._last}; the same command goes on there\n")
            return 1
        await self._redis.delete(self._key)
        sys.stdout.write(f"{self._written:,} events of cursors {self._begin} to {self._end} are on {FIREHOSE_LIVE}\n")
        return 0

    async def _take(self, result: FrameResult) -> bool:
        if result.seq > self._end:
            self._last = self._end
            return True
        self._payloads += [encode_event(event) for event in result.events]
        self._last = result.seq
        if len(self._payloads) >= BATCH:
            await self._flush()
        return self._last >= self._end

    async def _flush(self) -> None:
        if str(self._last) == self._stored:
            return
        await self._writer.append_with_cursor(self._payloads, self._key, self._stored, str(self._last), self._stop)
        self._stored, self._written = str(self._last), self._written + len(self._payloads)
        self._payloads = []
