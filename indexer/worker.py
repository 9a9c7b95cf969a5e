"""The heart of the indexer: batch -> decode -> prepare -> apply -> settle -> ack, for one stream, in its order."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from common.daemon import stopped_within
from common.delivery import Delivery
from common.errors import BadInput
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
DECODED_AT_ONCE = 20  # meanwhile the portion before is being applied


class Indexer:
    """Service: applies what a stream holds, in its order, until told to stop.

    While one portion is applied, the one before it is settled and acked, and up to `ahead` more are read and prepared.
    """

    def __init__(
        self,
        consumer: StreamConsumer,
        work: Work,
        database: Database,
        *,
        ahead: int,
        turns: Turns | None = None,
        is_live: bool = True,
    ) -> None:
        """`turns` are shared with the indexers of other streams, of which those that are live go first."""
        self._consumer = consumer
        self._turns = turns or Turns(1)
        self._is_live = is_live
        self._work = work
        self._database = database
        self._prepared: asyncio.Queue[Portion | None] = asyncio.Queue(maxsize=ahead)
        self._applied: asyncio.Queue[Portion | None] = asyncio.Queue(maxsize=1)

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._apply_all(stop))
            tasks.create_task(self._settle_all(stop))
            async for deliveries in self._consumer.batches(stop):
                if self._is_live:
                    in_full = len(deliveries) >= self._consumer.batch_size
                    self._turns.live_was_read(self._consumer.stream, in_full=in_full)
                for items in self._work.portions(await self._decode(deliveries, stop)):
                    metrics.ACTIVE_TASKS.inc()
                    if self._is_live:
                        self._turns.live_comes()
                    await self._prepared.put(await self._work.prepare(items))
            self._turns.live_was_read(self._consumer.stream, in_full=False)
            await self._prepared.put(None)

    async def _decode(self, deliveries: list[Delivery], stop: asyncio.Event) -> list[Item]:
        """Entries that mean nothing are buried here, before any halving could bury them again."""
        items = []
        for number, delivery in enumerate(deliveries):
            if number % DECODED_AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                items.append(self._work.decode(delivery))
            except BadInput as refusal:
                if await self._bury(Item(delivery, None), refusal.reason, "", refusal.detail, stop):
                    await self._consumer.ack([delivery], stop)
        return items

    async def _apply_all(self, stop: asyncio.Event) -> None:
        while portion := await self._prepared.get():
            if not self._is_live:
                await self._turns.backfill()
            with metrics.batch_timer(self._consumer.stream):
                done = await self._do(self._work.apply, portion, stop)
            if done:
                await self._applied.put(portion)
            else:
                self._leave(portion)
        await self._applied.put(None)

    async def _settle_all(self, stop: asyncio.Event) -> None:
        """Written, settled, then acked."""
        while portion := await self._applied.get():
            if await self._do(self._work.settle, portion, stop):
                await self._consumer.ack([item.delivery for item in portion.items], stop)
            self._leave(portion)

    def _leave(self, portion: Portion) -> None:
        """What could not be written because the daemon stops stays pending."""
        self._consumer.release([item.delivery for item in portion.items])
        metrics.ACTIVE_TASKS.dec()
        if self._is_live:
            self._turns.live_goes()

    async def _do(self, step: Step, portion: Portion, stop: asyncio.Event) -> bool:
        """True when the step is done: a portion that Postgres refuses is halved until the culprit is alone.

        False if the daemon was told to stop before.
        """
        backoff = Backoff()
        while True:
            try:
                await step(portion, self._consumer.stream)
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
            return await self._bury(items[0], "refused_by_postgres", sqlstate(error), str(error), stop)
        middle = len(items) // 2
        halves = [await self._work.prepare(half) for half in (items[:middle], items[middle:])]
        return await self._do(step, halves[0], stop) and await self._do(step, halves[1], stop)

    async def _bury(self, item: Item, reason: str, state: str, error: str, stop: asyncio.Event) -> bool:
        letter = DeadLetter(self._consumer.stream, item, reason, state, error)
        where = {"stream": letter.stream, "entry": item.delivery.id.decode()}
        log.warning("buried", extra={**where, "reason": reason, "error": error})
        backoff = Backoff()
        while True:
            try:
                await self._database.bury(letter)
            except ERRORS as failure:
                if verdict(failure) is not Verdict.WAIT:
                    raise
            else:
                metrics.count_dead_letter(reason)
                return True
            if await stopped_within(stop, backoff.next_seconds()):
                return False
