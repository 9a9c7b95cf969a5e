"""A relay's list of hosts, page by page: every PDS that it knows is to be listed (lexicon: sync.listHosts)."""

import asyncio
import logging
from typing import Any
from urllib.parse import urlencode

from redis.asyncio import Redis

from common.daemon import stopped_within
from common.errors import BadInput, GiveUp, TryLater
from common.outbound import Outbound
from common.redis_connection import outlast
from common.retry import Backoff
from ingester.accounts import Account
from ingester.cursors import LISTING_DONE, stored_cursor
from ingester.pages import Page, page_of
from ingester.upstream import upstream_of

HOSTS_DUE = "ingester:pds:due"  # host -> Unix time at which it is to be listed
PAGE_HOSTS = 1000  # the most that the lexicon allows
MAX_PAGE_BYTES = 1 << 20
MAX_HOSTS = 100_000
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
GONE = ("offline", "banned")

log = logging.getLogger(__name__)


class HostListing:
    """Hosts that are known already stay as they are. `key` is where the position is kept."""

    def __init__(self, redis: Redis, outbound: Outbound, http_url: str, *, key: str, account: Account) -> None:
        self._redis = redis
        self._outbound = outbound
        self._url = f"{http_url}/xrpc/com.atproto.sync.listHosts"
        self._key = key
        self._account = account
        self._backoff = Backoff(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)

    async def to_its_end(self, stop: asyncio.Event) -> bool:
        """Page after page; False if it was told to stop before the last one."""
        while not stop.is_set():
            stored = await stored_cursor(self._redis, self._key, stop)
            if stored is None or stored == LISTING_DONE:
                return stored == LISTING_DONE
            try:
                page = await self._page(stored)
            except (TryLater, BadInput, GiveUp) as error:
                await stopped_within(stop, self._after_failure(error))
                continue
            self._backoff.reset()
            await outlast(stop, lambda page=page: self._write(page))  # type: ignore[misc]
        return False

    async def _page(self, cursor: str) -> Page:
        query = {"limit": str(PAGE_HOSTS)} | ({"cursor": cursor} if cursor else {})
        answer = await self._outbound.get_json(f"{self._url}?{urlencode(query)}", MAX_PAGE_BYTES)
        return page_of(answer, cursor, "hosts")

    async def _write(self, page: Page) -> bool:
        """The hosts before the cursor; who repeats this repeats nothing."""
        hosts = [host for row in page.rows if (host := _host(row))]
        is_full = await self._redis.zcard(HOSTS_DUE) + len(hosts) > MAX_HOSTS
        if is_full:
            log.error("the relay lists more hosts than there can be; the rest is left out", extra={"most": MAX_HOSTS})
        elif hosts:
            await self._redis.zadd(HOSTS_DUE, dict.fromkeys(hosts, 0), nx=True)
        await self._redis.set(self._key, LISTING_DONE if is_full or page.cursor is None else page.cursor)
        return True

    def _after_failure(self, error: TryLater | BadInput | GiveUp) -> float:
        self._account.error("page")
        if self._backoff.failures == 0:
            log.warning("no page of listHosts, trying again", extra={"url": self._url, "error": str(error)})
        asked = error.seconds if isinstance(error, TryLater) else None
        return max(self._backoff.next_seconds(), asked or 0.0)


def _host(row: Any) -> str:
    """The canonical name of a host that may have repos to list, or nothing."""
    name = row.get("hostname") if isinstance(row, dict) else None
    if not isinstance(name, str) or row.get("status") in GONE:
        return ""
    try:
        return upstream_of(f"https://{name}").host
    except BadInput:
        return ""
