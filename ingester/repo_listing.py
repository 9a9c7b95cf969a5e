"""One host's list of repos, page by page, into repo_backfill: every repo that the host knows becomes a job."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, UnsetType
from redis.asyncio import Redis

from common.backpressure import Room
from common.daemon import stopped_within
from common.errors import BadInput, GiveUp, TryLater
from common.events import RepoJob, encode_event
from common.redis_connection import outlast
from common.retry import Backoff
from common.streams import Fenced, StreamWriter
from common.syntax import is_did, is_tid
from ingester.accounts import Account
from ingester.cursors import LISTING_DONE, stored_cursor
from ingester.gaps import Gap, GapLedger
from ingester.pages import Page, RepoPages

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
LEAST_ROWS_OF_A_PAGE = 100  # for which it counts: there may be no end of pages with a row or none
MOST_STATUS = 64

log = logging.getLogger(__name__)
AreCurrent = Callable[[Sequence[RepoJob]], Awaitable[list[bool]]]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What is listed: `host` as it is called in logs and in the ledger, `key` where the position is kept.

    Jobs carry `reason`, if there is one. Repos that `are_current` are counted and not queued. The host is let go after
    `tries` failures in a row (0: never), and after `most_rows` rows (0: any number), for it may make them up; a page
    counts for LEAST_ROWS_OF_A_PAGE at least. Between two pages it has `page_seconds`.
    """

    host: str
    key: str
    are_current: AreCurrent
    reason: str | UnsetType = UNSET
    tries: int = 0
    most_rows: int = 0
    page_seconds: float = 0.0


class RepoListing:
    """The stored cursor is the only state: delete its key and the listing begins again."""

    def __init__(
        self,
        redis: Redis,
        pages: RepoPages,
        listed: Listed,
        *,
        writer: StreamWriter,
        room: Room,
        account: Account,
        ledger: GapLedger,
    ) -> None:
        self._redis = redis
        self._pages = pages
        self._listed = listed
        self._writer = writer
        self._room = room
        self._account = account
        self._ledger = ledger
        self._backoff = Backoff(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        self._rows_to_ask_for = pages.rows
        self._steps = 0
        self._rows = 0

    async def to_its_end(self, stop: asyncio.Event) -> bool:
        """Page after page; False if it was told to stop before the last one, or has let the host go."""
        while not stop.is_set():
            stored = await stored_cursor(self._redis, self._listed.key, stop)
            if stored is None or stored == LISTING_DONE:
                return stored == LISTING_DONE
            if wait_seconds := await self._take_page(stored, stop):
                if self._listed.tries and self._backoff.failures >= self._listed.tries:
                    return False
                await stopped_within(stop, wait_seconds)
        return False

    async def _take_page(self, stored: str, stop: asyncio.Event) -> float:
        """Fetch and write the page after `stored`; the seconds to wait before the next one."""
        if not await self._room.wait(stop):
            return 0.0
        start = str(int(stored) + self._steps) if self._steps else stored
        try:
            page = await self._pages.page(start, self._rows_to_ask_for)
        except (TryLater, BadInput, GiveUp) as error:
            return await self._after_failure(error, stored)
        if self._steps:
            await self._write_down(
                "unlisted_rows", stored, int(start) + 1, "the host fails to list what is there", stop
            )
        self._note_success(stored, start)
        return await self._write(page, stored, stop)

    async def _write(self, page: Page, stored: str, stop: asyncio.Event) -> float:
        jobs, dropped = self._jobs(page)
        current = await outlast(stop, lambda: self._listed.are_current(jobs))
        if current is None:
            return 0.0
        payloads = [encode_event(job) for job, is_current in zip(jobs, current, strict=True) if not is_current]
        dropped["current"] = len(jobs) - len(payloads)
        cursor = await self._cursor_after(page, stored, stop)
        self._account.received(len(page.rows), len(payloads), dropped)
        try:
            written = await self._writer.append_with_cursor(payloads, self._listed.key, stored, cursor, stop)
        except Fenced as fence:
            self._account.error("fenced")
            fields = {"key": self._listed.key, "detail": str(fence)}
            log.warning("the cursor was moved by someone else", extra=fields)
            written = False
        if not written:
            self._account.discarded(len(payloads))
            return self._backoff.next_seconds()
        self._account.written(len(payloads))
        if cursor == LISTING_DONE:
            log.info("every repo is listed", extra={"host": self._listed.host})
            return 0.0
        return self._listed.page_seconds

    async def _cursor_after(self, page: Page, stored: str, stop: asyncio.Event) -> str:
        self._rows += max(len(page.rows), LEAST_ROWS_OF_A_PAGE)
        if page.cursor is not None and self._listed.most_rows and self._rows >= self._listed.most_rows:
            why = f"the host lists more than {self._listed.most_rows} repos; the rest was not asked for"
            await self._write_down("too_many_rows", "0", None, why, stop)
            return LISTING_DONE
        return LISTING_DONE if page.cursor is None else page.cursor

    def _jobs(self, page: Page) -> tuple[list[RepoJob], Counter[str]]:
        jobs: list[RepoJob] = []
        dropped: Counter[str] = Counter()
        for row in page.rows:
            try:
                jobs.append(_job(row, self._pages.http_url, self._listed.reason))
            except BadInput as bad:
                dropped[bad.reason] += 1
        return jobs, dropped

    def _note_success(self, stored: str, start: str) -> None:
        if self._steps:
            self._account.error("row_skipped")
            fields = {"host": self._listed.host, "after": stored, "up_to": start}
            log.error("stepped over a row that the host cannot list; its repo is not queued", extra=fields)
        self._steps = 0
        self._rows_to_ask_for = min(self._pages.rows, self._rows_to_ask_for * 2)
        self._backoff.reset()

    async def _write_down(self, kind: str, after: str, before: int | None, why: str, stop: asyncio.Event) -> None:
        """In the ledger before the cursor is past it."""
        number = int(after) if after.isdecimal() else 0
        found = Gap(source="listing", host=self._listed.host, kind=kind, after=number, before=before, why=why)
        await outlast(stop, lambda: self._ledger.record(found))

    async def _after_failure(self, error: TryLater | BadInput | GiveUp, stored: str) -> float:
        self._account.error("page")
        if self._backoff.failures == 0:
            fields = {"host": self._listed.host, "cursor": stored, "error": str(error)}
            level = logging.WARNING if isinstance(error, TryLater) else logging.ERROR
            log.log(level, "no page of the list of repos, trying again", extra=fields)
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
            await self._pages.page(cursor, 1)
        except (TryLater, BadInput, GiveUp):
            return False
        return True


def _job(row: Any, host: str, reason: str | UnsetType) -> RepoJob:
    """Inactive repos are queued too: whoever takes the job decides, by what the account is then."""
    if not isinstance(row, dict) or not isinstance(row.get("did"), str) or not is_did(row["did"]):
        raise BadInput("bad_row", "did")
    rev, status = row.get("rev"), row.get("status")
    return RepoJob(
        did=row["did"],
        host=host,
        rev=rev if isinstance(rev, str) and is_tid(rev) else "",
        status=status if isinstance(status, str) and len(status) <= MOST_STATUS else None,
        active=row.get("active") is not False,
        reason=reason,
    )
