"""listRepos of one relay, page by page, into repo_backfill: every repo that the relay knows becomes a job."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from redis.asyncio import Redis

from common.backpressure import Room
from common.daemon import stopped_within
from common.errors import BadInput, GiveUp, TryLater
from common.events import RepoJob, encode_event
from common.outbound import Budget, Outbound
from common.retry import Backoff
from common.streams import REPO_BACKFILL, Fenced, StreamWriter
from common.syntax import is_did
from ingester.accounts import Account
from ingester.cursors import LISTING_DONE, cursor_key, stored_cursor
from ingester.metrics import CURSOR_SKIPS, FETCH_ERRORS, Listings
from ingester.upstream import Upstream

PAGE_ROWS = 1000  # the most that the lexicon allows
MAX_PAGE_BYTES = 8 << 20
FIRST_WAIT_SECONDS = 0.5
RECHECK_SECONDS = 60.0
_BUDGET = Budget(headers_seconds=60.0, total_seconds=90.0)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """`cursor` is None on the last page, and only there: a page may be empty before that (protocol: listRepos)."""

    rows: list[Any]
    cursor: str | None


class RepoListing:
    """A service. The stored cursor is the only state: delete its key and the listing begins again."""

    def __init__(
        self,
        redis: Redis,
        outbound: Outbound,
        upstream: Upstream,
        *,
        writer: StreamWriter,
        room: Room,
        account: Account,
        listings: Listings,
    ) -> None:
        self._redis = redis
        self._outbound = outbound
        self._upstream = upstream
        self._writer = writer
        self._room = room
        self._account = account
        self._listings = listings
        self._key = cursor_key(REPO_BACKFILL, upstream)
        self._backoff = Backoff(FIRST_WAIT_SECONDS, 60.0)
        self._rows_to_ask_for = PAGE_ROWS
        self._steps = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            stored = await stored_cursor(self._redis, self._key, stop)
            if stored is None:
                return
            done = stored == LISTING_DONE
            self._listings.show(self._upstream.host, complete=done)
            wait_seconds = RECHECK_SECONDS if done else await self._take_page(stored, stop)
            if wait_seconds:
                await stopped_within(stop, wait_seconds)

    async def _take_page(self, stored: str, stop: asyncio.Event) -> float:
        """Fetch and write the page after `stored`; the seconds to wait before the next one."""
        if not await self._room.wait(stop):
            return 0.0
        start = str(int(stored) + self._steps) if self._steps else stored
        try:
            page = await self._fetch(start, self._rows_to_ask_for)
        except (TryLater, BadInput, GiveUp) as error:
            return await self._after_failure(error, stored)
        self._note_success(stored, start)
        return await self._write(page, stored, stop)

    async def _fetch(self, cursor: str, limit: int) -> Page:
        query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        url = f"{self._upstream.http_url}/xrpc/com.atproto.sync.listRepos?{urlencode(query)}"
        page = _page(await self._outbound.get_json(url, MAX_PAGE_BYTES, _BUDGET))
        if page.cursor is not None and page.cursor == cursor:
            raise BadInput("same_cursor", "the host leads back to the page that it came from")
        return page

    async def _write(self, page: Page, stored: str, stop: asyncio.Event) -> float:
        payloads, dropped = self._jobs(page)
        self._account.received(len(page.rows), len(payloads), dropped)
        cursor = LISTING_DONE if page.cursor is None else page.cursor
        try:
            written = await self._writer.append_with_cursor(payloads, self._key, stored, cursor, stop)
        except Fenced as fence:
            self._account.error("fenced")
            log.warning("the cursor was moved by someone else", extra={"key": self._key, "detail": str(fence)})
            written = False
        if not written:
            self._account.discarded(len(payloads))
            return self._backoff.next_seconds()
        self._account.written(len(payloads))
        if page.cursor is None:
            log.info("every repo is listed", extra={"host": self._upstream.host})
        return 0.0

    def _jobs(self, page: Page) -> tuple[list[bytes], Counter[str]]:
        payloads: list[bytes] = []
        dropped: Counter[str] = Counter()
        for row in page.rows:
            try:
                payloads.append(encode_event(_job(row, self._upstream.http_url)))
            except BadInput as bad:
                dropped[bad.reason] += 1
        return payloads, dropped

    def _note_success(self, stored: str, start: str) -> None:
        if self._steps:
            CURSOR_SKIPS.inc()
            fields = {"host": self._upstream.host, "after": stored, "up_to": start}
            log.error("stepped over a row that the host cannot list; its repo is not queued", extra=fields)
        self._steps = 0
        self._rows_to_ask_for = min(PAGE_ROWS, self._rows_to_ask_for * 2)
        self._backoff.reset()

    async def _after_failure(self, error: TryLater | BadInput | GiveUp, stored: str) -> float:
        self._account.error("page")
        FETCH_ERRORS.inc()
        if self._backoff.failures == 0:
            fields = {"host": self._upstream.host, "cursor": stored, "error": str(error)}
            level = logging.WARNING if isinstance(error, TryLater) else logging.ERROR
            log.log(level, "no page of listRepos, trying again", extra=fields)
        if error.reason == "server_error":
            await self._close_in(stored)
        asked = error.seconds if isinstance(error, TryLater) else None
        return max(self._backoff.next_seconds(), asked or 0.0)

    async def _close_in(self, stored: str) -> None:
        """One row that a host has no state for fails its whole page, for ever: ask for less, until it is alone.

        Then step over it, if cursors are numbers. No other row is lost: steps are of one, so what lies between is
        not there. And not during an outage: the host must answer for its first row and still not for this one.
        """
        if self._rows_to_ask_for > 1:
            self._rows_to_ask_for = max(1, self._rows_to_ask_for // 4)
            return
        if not stored.isdecimal():
            return
        if await self._answers("") and not await self._answers(str(int(stored) + self._steps)):
            self._steps += 1

    async def _answers(self, cursor: str) -> bool:
        try:
            await self._fetch(cursor, 1)
        except (TryLater, BadInput, GiveUp):
            return False
        return True


def _page(answer: Any) -> Page:
    rows, cursor = (answer.get("repos"), answer.get("cursor")) if isinstance(answer, dict) else (None, None)
    if not isinstance(rows, list) or not isinstance(cursor, str | None):
        raise BadInput("bad_page", "no list of repos")
    return Page(rows, cursor or None)


def _job(row: Any, host: str) -> RepoJob:
    """Inactive repos are queued too: whoever takes the job decides, by what the account is then."""
    if not isinstance(row, dict) or not isinstance(row.get("did"), str) or not is_did(row["did"]):
        raise BadInput("bad_row", "did")
    rev, status = row.get("rev"), row.get("status")
    return RepoJob(
        did=row["did"],
        host=host,
        rev=rev if isinstance(rev, str) else "",
        status=status if isinstance(status, str) else None,
        active=row.get("active") is not False,
    )
