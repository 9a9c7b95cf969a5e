"""The signing keys of accounts, and what becomes of a frame while a key cannot be had.

Nothing is lost for want of a key, and no frame waits long for somebody else's server:

- The directory of did:plc is one for all. While it is away, what needs it waits, and the cursor stays where it is.
- If it has answered for others and after that still not for this DID, the frame is refused, and the repo is to be
  fetched later.
- The host of a did:web is waited for a moment, all such hosts together for a share of the time. Then likewise, and the
  question goes on for the frames to come.
"""

import asyncio
import logging
import time
from types import TracebackType
from typing import Self

from common.did_documents import DidDocument
from common.errors import BadInput, GiveUp, TryLater
from common.identity import Identities
from common.keys import PublicKey
from common.retry import Backoff
from ingester.accounts import Account
from ingester.frame_reader import KeyAnswer

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
TRIES_WHILE_OTHERS_SUCCEED = 3
HOST_SECONDS, HOSTS_SECONDS, HOSTS_SHARE = 2.0, 6.0, 0.1
HOST_REST_SECONDS = 300.0
MOST_BEHIND = 1000
_NO_SUCH_ACCOUNT = ("did_tombstoned", "did_unsupported", "bad_did")

log = logging.getLogger(__name__)


class SigningKeys:
    """An async context manager: questions whose answer nobody waits for end with it."""

    def __init__(self, identities: Identities, account: Account) -> None:
        self._identities = identities
        self._account = account
        self._group = asyncio.TaskGroup()
        self._behind: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, float] = {}
        self._patience = Patience(HOSTS_SECONDS, HOSTS_SHARE)
        self._answered_for = ""
        self._complained = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._behind.values():
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    async def answer(self, did: str, tried: PublicKey | None = None) -> KeyAnswer:
        """The account's key; if it is `tried`, which did not fit, the newest. May wait, and may be cancelled."""
        backoff, is_last = Backoff(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS), False
        while True:
            try:
                document = await self._document(did)
                is_newest = tried is not None and document.signing_key == tried
                if is_newest:
                    document = await self._document(did, refresh=True)
            except (BadInput, GiveUp) as failure:
                return _none(did, "no_such_account" if failure.reason in _NO_SUCH_ACCOUNT else "no_did_document")
            except TryLater as failure:
                if is_last or not self._is_of_the_directory(did, tried, failure):
                    return _none(did, "no_did_document" if tried is None else "bad_signature")
                is_last = backoff.failures >= TRIES_WHILE_OTHERS_SUCCEED and await self._directory_is_well()
                seconds = FIRST_WAIT_SECONDS if is_last else backoff.next_seconds()
                await asyncio.sleep(max(seconds, failure.seconds or 0.0))
            else:
                self._note_answer(did)
                return KeyAnswer(did, document.signing_key, is_newest, reason="no_key")

    async def forget(self, did: str) -> None:
        """Its document may have changed."""
        self._resting.pop(did, None)
        await self._identities.forget(did)

    async def _document(self, did: str, *, refresh: bool = False) -> DidDocument:
        if did.startswith("did:web:") and (refresh or not self._identities.knows(did)):
            await self._ask_for_a_moment(did, refresh)
            refresh = False
        elif not refresh and self._identities.is_aging(did):
            self._ask_behind(did, refresh=True)
        return await self._identities.resolve(did, refresh=refresh)

    async def _ask_for_a_moment(self, did: str, refresh: bool) -> None:
        asking = self._ask_behind(did, refresh)
        if asking is not None:
            seconds, started = self._patience.take(HOST_SECONDS), time.monotonic()
            await asyncio.wait([asking], timeout=seconds)
            self._patience.give_back(seconds - (time.monotonic() - started))
        if asking is None or not asking.done() or did in self._resting:
            raise TryLater("timeout", did)

    def _ask_behind(self, did: str, refresh: bool) -> asyncio.Task[None] | None:
        """None if this one has failed lately, or too many are being asked already."""
        if (asking := self._behind.get(did)) is not None:
            return asking
        if len(self._behind) >= MOST_BEHIND or self._resting.get(did, 0.0) > time.monotonic():
            return None
        asking = self._behind[did] = self._group.create_task(self._ask(did, refresh))
        asking.add_done_callback(lambda _: self._behind.pop(did))
        return asking

    async def _ask(self, did: str, refresh: bool) -> None:
        self._resting.pop(did, None)
        try:
            await self._identities.resolve(did, refresh=refresh)
        except (BadInput, GiveUp, TryLater) as failure:
            if isinstance(failure, TryLater):
                self._resting[did] = time.monotonic() + HOST_REST_SECONDS
                if len(self._resting) > MOST_BEHIND:
                    self._resting.pop(next(iter(self._resting)))

    def _is_of_the_directory(self, did: str, tried: PublicKey | None, failure: TryLater) -> bool:
        """Whether it is worth waiting for that. Not for a doubt about a signature: while the directory is away, nobody
        can have changed a key there.
        """
        if not did.startswith("did:plc:") or tried is not None:
            return False
        self._account.error("no_did_document")
        if not self._complained:
            self._complained = True
            log.warning("no DID document to verify commits with, waiting", extra={"did": did, "detail": str(failure)})
        return True

    async def _directory_is_well(self) -> bool:
        """Whether it answers for somebody else for whom it has answered before."""
        if not self._answered_for:
            return False
        try:
            await self._identities.resolve(self._answered_for, refresh=True)
        except TryLater:
            return False
        except (BadInput, GiveUp):
            return True
        return True

    def _note_answer(self, did: str) -> None:
        if did.startswith("did:plc:"):
            self._answered_for, self._complained = did, False


class Patience:
    """Seconds to wait with: at most `most` at once, and no more than `share` of the time in the long run."""

    def __init__(self, most: float, share: float) -> None:
        self._most = self._left = most
        self._share = share
        self._since = time.monotonic()

    def take(self, seconds: float) -> float:
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._since) * self._share)
        self._since = now
        granted = min(seconds, self._left)
        self._left -= granted
        return granted

    def give_back(self, seconds: float) -> None:
        self._left = min(self._most, self._left + max(0.0, seconds))


def _none(did: str, reason: str) -> KeyAnswer:
    return KeyAnswer(did, None, is_newest=True, reason=reason)
