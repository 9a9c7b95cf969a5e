"""One of the lanes of an indexer: one portion after the other is applied, settled and acked."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from common.daemon import stopped_within
from common.retry import Backoff
from common.streams import StreamConsumer
from indexer import metrics
from indexer.batch import Item
from indexer.database import Database
from indexer.dead_letters import DeadLetter
from indexer.refusals import ERRORS, Verdict, sqlstate, verdict
from indexer.turns import Turns
from indexer.work import Portion, Work

log = logging.getLogger(__name__)

Step = Callable[[Portion, str], Awaitable[None]]


@dataclass(frozen=True)
class Stream:
    """What the lanes of one stream share. `turns` are shared by all streams, of which those that are live go first."""

    consumer: StreamConsumer
    work: Work
    database: Database
    turns: Turns
    is_live: bool

    @property
    def name(self) -> str:
        return self.consumer.stream


class Lane:
    """Portions in the order in which they come, until None does."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._prepared: asyncio.Queue[Portion | None] = asyncio.Queue(maxsize=1)

    async def take(self, items: Sequence[Item] | None) -> None:
        """Prepared here, while others are applied. Waits while one that is prepared has not been begun."""
        if items is None:
            await self._prepared.put(None)
            return
        metrics.ACTIVE_TASKS.inc()
        if self._stream.is_live:
            self._stream.turns.live_comes()
        await self._prepared.put(await self._stream.work.prepare(items))

    async def run(self, stop: asyncio.Event) -> None:
        """Written, settled, then acked."""
        while portion := await self._prepared.get():
            if not self._stream.is_live:
                await self._stream.turns.backfill()
            work = self._stream.work
            with metrics.batch_timer(self._stream.name):
                if await self._do(work.apply, portion, stop) and await self._do(work.settle, portion, stop):
                    await self._stream.consumer.ack([item.delivery for item in portion.items], stop)
            self._leave(portion)

    def _leave(self, portion: Portion) -> None:
        """What could not be written because the daemon stops stays pending."""
        self._stream.consumer.release([item.delivery for item in portion.items])
        metrics.ACTIVE_TASKS.dec()
        if self._stream.is_live:
            self._stream.turns.live_goes()

    async def _do(self, step: Step, portion: Portion, stop: asyncio.Event) -> bool:
        """True when the step is done: a portion that Postgres refuses is halved until the culprit is alone.

        False if the daemon was told to stop before.
        """
        backoff = Backoff()
        while True:
            try:
                await step(portion, self._stream.name)
            except ERRORS as error:
                judgement = verdict(error)
                metrics.count_refusal(judgement)
                if judgement is Verdict.STOP:
                    raise
                if judgement is Verdict.HALVE:
                    return await self._halve(step, portion.items, error, stop)
                if backoff.failures == 0:
                    log.warning("postgres is away or busy, waiting", extra={"error": str(error)})
            else:
                return True
            if await stopped_within(stop, backoff.next_seconds()):
                return False

    async def _halve(self, step: Step, items: Sequence[Item], error: BaseException, stop: asyncio.Event) -> bool:
        if len(items) == 1:
            letter = DeadLetter(self._stream.name, items[0], "refused_by_postgres", sqlstate(error), str(error))
            return await bury(self._stream.database, letter, stop)
        middle = len(items) // 2
        halves = [await self._stream.work.prepare(half) for half in (items[:middle], items[middle:])]
        return await self._do(step, halves[0], stop) and await self._do(step, halves[1], stop)


async def bury(database: Database, letter: DeadLetter, stop: asyncio.Event) -> bool:
    """False if the daemon was told to stop before."""
    where = {"stream": letter.stream, "entry": letter.item.delivery.id.decode()}
    log.warning("buried", extra={**where, "reason": letter.reason, "error": letter.error})
    backoff = Backoff()
    while True:
        try:
            await database.bury(letter)
        except ERRORS as failure:
            if verdict(failure) is not Verdict.WAIT:
                raise
        else:
            metrics.count_dead_letter(letter.reason)
            return True
        if await stopped_within(stop, backoff.next_seconds()):
            return False
