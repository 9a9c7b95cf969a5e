"""What people choose while the ingester runs: paused sources and the filter. It stands in Redis: a restart keeps it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis

from common.collection_filter import CollectionFilter
from common.daemon import stopped_within
from common.errors import BadInput
from common.redis_connection import outlast
from ingester.switches import Switch

PAUSED_KEY, COLLECTIONS_KEY = "ingester:paused", "ingester:collections"
LOOK_SECONDS = 2.0

log = logging.getLogger(__name__)


class LiveFilter:
    """Call it with a collection. The filter of the settings, until people have chosen another."""

    def __init__(self, setting: CollectionFilter) -> None:
        self.setting = setting
        self.chosen: CollectionFilter | None = None

    @property
    def current(self) -> CollectionFilter:
        return self.chosen or self.setting

    def __call__(self, collection: str) -> bool:
        return self.current(collection)


class Controls:
    """The same for all ingesters of one Redis: each looks every LOOK_SECONDS, and at once where it was told itself.

    All methods raise what Redis raises.
    """

    def __init__(
        self,
        redis: Redis,
        switches: Sequence[Switch],
        filter: LiveFilter,
        remark: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`remark` hears which sources are paused, if any are."""
        self.switches = switches
        self.filter = filter
        self._redis = redis
        self._remark = remark
        self._unreadable = ""

    async def watch(self, stop: asyncio.Event) -> None:
        """Service: no source begins before the first look."""
        while not stop.is_set():
            await outlast(stop, self.look)
            await stopped_within(stop, LOOK_SECONDS)

    async def look(self) -> bool:
        chosen: Any = await self._redis.get(COLLECTIONS_KEY)
        paused: Any = await self._redis.smembers(PAUSED_KEY)
        self._choose(chosen.decode(errors="replace") if chosen else "")
        for switch in self.switches:
            switch.turn(paused=switch.source.name.encode() in paused)
        names = [switch.source.name for switch in self.switches if switch.is_paused]
        self._remark(f"paused: {', '.join(names)}" if names else "")
        return True

    async def pause(self, name: str, *, paused: bool) -> bool:
        """False if there is no such source."""
        if all(switch.source.name != name for switch in self.switches):
            return False
        await (self._redis.sadd if paused else self._redis.srem)(PAUSED_KEY, name)
        log.warning("paused" if paused else "resumed", extra={"source": name})
        return await self.look()

    async def choose(self, filter: CollectionFilter | None) -> None:
        """None is the filter of the settings."""
        if filter is None:
            await self._redis.delete(COLLECTIONS_KEY)
        else:
            await self._redis.set(COLLECTIONS_KEY, ",".join(filter.patterns))
        await self.look()

    async def cursors(self) -> list[str | None]:
        """Where each source is, in the order of the switches."""
        keys = [switch.source.cursor_key for switch in self.switches]
        stored: Any = await self._redis.mget(keys) if keys else []
        return [None if each is None else each.decode(errors="replace") for each in stored]

    def _choose(self, text: str) -> None:
        """What cannot be read changes nothing, and is told once."""
        try:
            chosen = CollectionFilter(tuple(text.split(","))) if text else None
        except BadInput as bad:
            if text != self._unreadable:
                log.warning("the chosen filter cannot be read", extra={"key": COLLECTIONS_KEY, "detail": bad.detail})
            self._unreadable = text
            return
        if chosen != self.filter.chosen:
            self.filter.chosen = chosen
            collections = ",".join(self.filter.current.patterns)
            log.warning("the filter was changed", extra={"collections": collections, "by_setting": chosen is None})
