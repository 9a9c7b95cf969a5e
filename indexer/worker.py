"""The heart of the indexer: what a stream holds is read, decoded, and handed to the lanes that apply it."""

import asyncio
import zlib
from collections.abc import Sequence

from common.delivery import Delivery
from common.errors import BadInput
from common.streams import StreamConsumer
from indexer.batch import Item
from indexer.database import Database
from indexer.dead_letters import DeadLetter
from indexer.lane import Lane, Stream, bury
from indexer.turns import Turns
from indexer.work import Work

DECODED_AT_ONCE = 20  # meanwhile portions are being applied


class Indexer:
    """Service: applies what a stream holds until told to stop, and what belongs to one repo in its order.

    Every repo has its lane. Lanes apply side by side: no two of them ever wait for the same repo.
    """

    def __init__(
        self,
        consumer: StreamConsumer,
        work: Work,
        database: Database,
        *,
        lanes: int,
        turns: Turns | None = None,
        is_live: bool = True,
    ) -> None:
        """`turns` are shared with the indexers of other streams, of which those that are live go first."""
        self._stream = Stream(consumer, work, database, turns or Turns(1), is_live)
        self._lanes = [Lane(self._stream) for _ in range(lanes)]

    async def run(self, stop: asyncio.Event) -> None:
        consumer, turns, is_live = self._stream.consumer, self._stream.turns, self._stream.is_live
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(lane.run(stop))
            async for deliveries in consumer.batches(stop):
                if is_live:
                    turns.live_was_read(consumer.stream, in_full=len(deliveries) >= consumer.batch_size)
                items = await self._decode(deliveries, stop)
                for lane, own in zip(self._lanes, self._by_lane(items), strict=True):
                    for portion in self._stream.work.portions(own):
                        await lane.take(portion)
            turns.live_was_read(consumer.stream, in_full=False)
            for lane in self._lanes:
                await lane.take(None)

    def _by_lane(self, items: Sequence[Item]) -> list[list[Item]]:
        split: list[list[Item]] = [[] for _ in self._lanes]
        for item in items:
            split[zlib.crc32(self._stream.work.keeps_order_of(item).encode()) % len(split)].append(item)
        return split

    async def _decode(self, deliveries: list[Delivery], stop: asyncio.Event) -> list[Item]:
        """Entries that mean nothing are buried here, before any halving could bury them again."""
        items = []
        for number, delivery in enumerate(deliveries):
            if number % DECODED_AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                items.append(self._stream.work.decode(delivery))
            except BadInput as refusal:
                letter = DeadLetter(self._stream.name, Item(delivery, None), refusal.reason, "", refusal.detail)
                if await bury(self._stream.database, letter, stop):
                    await self._stream.consumer.ack([delivery], stop)
        return items
