"""A list of repos, page by page (lexicons: com.atproto.sync.listRepos, com.atproto.sync.listReposByCollection)."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from common.errors import BadInput
from common.outbound import Budget, Outbound

MAX_PAGE_BYTES = 8 << 20
MAX_CURSOR = 2048  # it is kept, and stands in the next URL
_BUDGET = Budget(headers_seconds=60.0, total_seconds=90.0)


@dataclass(frozen=True)
class Page:
    """`cursor` is None on the last page, and only there: a page may be empty before that (protocol: listRepos)."""

    rows: list[Any]
    cursor: str | None


class RepoPages:
    """The repos of one host, or with `collection` those that have records of it. `rows` is the most a page may have."""

    def __init__(self, outbound: Outbound, http_url: str, collection: str = "") -> None:
        self.http_url = http_url
        self.rows = 2000 if collection else 1000
        self._outbound = outbound
        method = "listReposByCollection" if collection else "listRepos"
        self._url = f"{http_url}/xrpc/com.atproto.sync.{method}"
        self._query = {"collection": collection} if collection else {}

    async def page(self, cursor: str, limit: int) -> Page:
        """The page after `cursor`. Raises TryLater, GiveUp and BadInput, also for a host that leads in a circle."""
        query = self._query | {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        answer = await self._outbound.get_json(f"{self._url}?{urlencode(query)}", MAX_PAGE_BYTES, _BUDGET)
        return page_of(answer, cursor, "repos")


def page_of(answer: Any, asked: str, rows_in: str) -> Page:
    """What came back for the cursor `asked`. Raises BadInput("bad_page", "same_cursor")."""
    rows, cursor = (answer.get(rows_in), answer.get("cursor")) if isinstance(answer, dict) else (None, None)
    if not isinstance(rows, list) or not isinstance(cursor, str | None):
        raise BadInput("bad_page", f"no list of {rows_in}")
    if cursor and len(cursor) > MAX_CURSOR:
        raise BadInput("bad_page", f"a cursor of {len(cursor)} characters")
    if cursor and cursor == asked:
        raise BadInput("same_cursor", "the host leads back to the page that it came from")
    return Page(rows, cursor or None)
