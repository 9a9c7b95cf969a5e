"""The end of a job: its outcome is written down and its entry acked in one step, so that a crash loses neither."""

import asyncio
import time
from collections.abc import Mapping

from redis.asyncio import Redis

from backfiller.ledger import DEAD_LETTERED, WRITE_ENTRY, Entry, Ledger
from backfiller.outcomes import DONE, Finished
from common.delivery import Delivery
from common.redis_connection import outlast
from common.streams import StreamConsumer

# The ack comes first: who finds nothing to ack has a retry in hand, and does nothing. As the first write it also opens
# the way for the others where Redis is full (it refuses a script only before its first write).
_SETTLE = f"""{WRITE_ENTRY}
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
if ARGV[3] ~= '' then
  write_entry(KEYS[2], KEYS[3], ARGV[3], ARGV[4])
  if ARGV[5] == '0' then redis.call('ZREM', KEYS[4], ARGV[3])
  else redis.call('ZADD', KEYS[4], redis.call('TIME')[1] + ARGV[5], ARGV[3]) end
end
if KEYS[5] then redis.call('XADD', KEYS[5], '*', unpack(ARGV, 6)) end
redis.call('XDEL', KEYS[1], ARGV[2])
return 1
"""


class Settlements:
    """Takes entries off the stream of `consumer` for good."""

    def __init__(
        self, redis: Redis, consumer: StreamConsumer, ledger: Ledger, dlq_stream: str, *, recheck_seconds: int
    ) -> None:
        """`recheck_seconds`: after so long a repo that was not to be had is looked at again."""
        self._consumer = consumer
        self._ledger = ledger
        self._dlq_stream = dlq_stream
        self._recheck_seconds = recheck_seconds
        self._settle = redis.register_script(_SETTLE)

    async def finish(self, delivery: Delivery, did: str, end: Finished, note: str, stop: asyncio.Event) -> None:
        entry = Entry(end.outcome, end.rev, int(time.time() * 1000), end.emitted, end.filtered, end.failed, note)
        again = 0 if end.outcome == DONE else self._recheck_seconds
        await self._run(delivery, [did, entry.text(), again], stop)

    async def bury(self, delivery: Delivery, did: str, fields: Mapping[str, str | bytes], stop: asyncio.Event) -> None:
        """The fields go to the dead letters. `did` may be empty: an entry that is no job is nobody's outcome."""
        entry = Entry(DEAD_LETTERED, "", int(time.time() * 1000), note=str(fields.get("error", "")))
        letter = [part for pair in fields.items() for part in pair]
        await self._run(delivery, [did, entry.text(), 0, *letter], stop, self._dlq_stream)

    async def _run(
        self, delivery: Delivery, args: list[str | bytes | int], stop: asyncio.Event, *more_keys: str
    ) -> None:
        ledger = self._ledger
        keys = [self._consumer.stream, ledger.bucket(str(args[0])), ledger.counts_key, ledger.recheck_key, *more_keys]
        await outlast(stop, lambda: self._settle(keys=keys, args=[self._consumer.group, delivery.id, *args]))
        self._consumer.release([delivery])
