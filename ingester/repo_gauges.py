"""How many repos we know, and with how many we are out of step, sampled from Redis."""

import asyncio

from redis.exceptions import RedisError

from common.daemon import stopped_within
from common.redis_connection import is_outage
from common.repo_states import RepoStates
from ingester.metrics import REPOS_DESYNCHRONISED, REPOS_KNOWN

INTERVAL_SECONDS = 2.0


class RepoGauges:
    """Service. During an outage of Redis the last numbers stand; the stream gauges show it."""

    def __init__(self, states: RepoStates) -> None:
        self._states = states

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                counts = await self._states.counts()
            except (RedisError, OSError) as error:
                if not is_outage(error):
                    raise
            else:
                REPOS_KNOWN.set(counts.repos)
                REPOS_DESYNCHRONISED.set(counts.desynchronised)
            await stopped_within(stop, INTERVAL_SECONDS)
