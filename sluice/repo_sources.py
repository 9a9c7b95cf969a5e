"""Where the DIDs of a backfill come from: named one by one, a file, or the lists of a PDS or relay, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from common.errors import CannotStart
from common.outbound import Outbound
from common.syntax import is_did, is_nsid
from ingester.pages import RepoPages

END = "!end"
PAGE = 500


@dataclass(frozen=True)
class Listed:
    """A DID, and the rev that whoever listed it has seen; empty where it does not say."""

    did: str
    rev: str = ""


@dataclass(frozen=True)
class Page:
    """`cursor` is where the next page begins, END after the last. `unusable` counts what is no DID."""

    rows: Sequence[Listed]
    cursor: str
    unusable: int = 0


class RepoSource(Protocol):
    """`name` tells it from others, so that an interrupted backfill goes on; `total` is None where nobody knows."""

    name: str
    total: int | None

    async def page(self, cursor: str) -> Page:
        """The page after `cursor` (empty: the first). Raises TryLater, BadInput, GiveUp."""
        ...


class DidFile:
    """A file with a DID at the beginning of each line; what follows after a comma is left out, and a heading too."""

    def __init__(self, path: Path) -> None:
        """Raises CannotStart."""
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CannotStart(f"--file: {error}") from error
        self._texts = [line.partition(",")[0].strip().strip('"') for line in lines]
        self.dids = [text for text in self._texts if is_did(text)]
        self.name = f"file:{path.resolve()}"
        self.total: int | None = len(self.dids)
        if not self.total:
            raise CannotStart(f"--file: {path} holds no DID")

    async def page(self, cursor: str) -> Page:
        start = int(cursor or "0")
        texts = self._texts[start : start + PAGE]
        rows = [Listed(text) for text in texts if is_did(text)]
        more = start + PAGE < len(self._texts)
        return Page(rows, str(start + PAGE) if more else END, sum(bool(text) for text in texts) - len(rows))


class RepoList:
    """listRepos of a PDS or relay, or, with a collection, listReposByCollection."""

    total: int | None = None

    def __init__(self, outbound: Outbound, host: str, collection: str = "") -> None:
        """Raises CannotStart."""
        if collection and not is_nsid(collection):
            raise CannotStart(f"--collection: {collection!r} is no NSID, such as app.bsky.feed.generator")
        url = host.rstrip("/") if "://" in host else f"https://{host}"
        self._pages = RepoPages(outbound, url, collection)
        self.name = f"{url}:{collection or 'repos'}"

    async def page(self, cursor: str) -> Page:
        found = await self._pages.page(cursor, PAGE)
        usable = [row for row in found.rows if _is_usable(row)]
        listed = [Listed(row["did"], row["rev"] if isinstance(row.get("rev"), str) else "") for row in usable]
        return Page(listed, found.cursor or END, len(found.rows) - len(usable))


def _is_usable(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("did"), str) and is_did(row["did"])
