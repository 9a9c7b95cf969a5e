"""How the frames of the firehose are read and verified: in the daemon, or in worker processes; and with whose keys."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from redis.asyncio import Redis

from common.identity import Identities
from common.outbound import Outbound
from ingester.accounts import FIREHOSE, Account
from ingester.connection import Reading
from ingester.controls import LiveFilter
from ingester.frame_reader import FrameReader
from ingester.reading_ahead import ReadAhead, Reader
from ingester.settings import Settings
from ingester.signing_keys import SigningKeys
from ingester.verification import Mode
from ingester.workers import Workers

IDENTITIES_KEPT = 50_000


@asynccontextmanager
async def verified_reading(
    settings: Settings, redis: Redis, outbound: Outbound, filter: LiveFilter, *, workers: int
) -> AsyncIterator[Reading]:
    """For all hosts of the firehose; what is known of accounts is shared with the backfillers, in Redis."""
    mode = Mode(settings.verify)
    identities = Identities(outbound, settings.plc_url, shared=redis, capacity=IDENTITIES_KEPT)
    async with AsyncExitStack() as stack:
        keys = await stack.enter_async_context(SigningKeys(identities, Account(FIREHOSE)))
        reader: Reader = FrameReader(mode, filter)
        if workers:
            reader = await stack.enter_async_context(Workers(workers, mode, filter))
        yield partial(ReadAhead, reader, keys)
