"""A DID -> its verified snapshot: identity, download, unpack."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

from backfiller.download import Downloads
from backfiller.spool import Spool
from backfiller.unpack import Snapshot, unpack
from common.collection_filter import CollectionFilter
from common.did_documents import DidDocument
from common.errors import BadInput, GiveUp, TryLater
from common.identity import Identities
from common.syntax import FUTURE_SECONDS, tid_at

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Runs what would hold up the event loop, a repo of 50 MB takes a second, beside it."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def __call__(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))


class Repos:
    def __init__(
        self,
        identities: Identities,
        downloads: Downloads,
        threads: Threads,
        collections: CollectionFilter,
        *,
        verify_signatures: bool = True,
    ) -> None:
        self._identities = identities
        self._downloads = downloads
        self._threads = threads
        self.collections = collections
        self._verify_signatures = verify_signatures

    async def snapshot(self, did: str, spool: Spool, *, refresh: bool = False, oldest: str = "") -> Snapshot:
        """The repo as its PDS has it now, good as long as the spool holds it.

        `refresh`: the identity that we remember was of no use the last time.
        `oldest`: a rev that the repo has had already. A host that serves less has gone back in time.
        A repo that is wrong, or absent, may only be so where the account has left, or by the key it had: the identity
        is looked up again before either is believed.
        Raises TryLater, BadInput, GiveUp for the reasons of backfiller.outcomes.
        """
        document = await self._identities.resolve(did, refresh=refresh)
        try:
            return await self._from(document, spool, oldest)
        except (BadInput, GiveUp):
            fresh = await self._identities.resolve(did, refresh=True)
            if (fresh.pds, fresh.signing_key) == (document.pds, document.signing_key):
                raise
        return await self._from(fresh, spool, oldest)

    async def _from(self, document: DidDocument, spool: Spool, oldest: str) -> Snapshot:
        did, key = document.did, document.signing_key
        if document.pds is None:
            raise BadInput("no_pds", did)
        if key is None and self._verify_signatures:
            raise BadInput("no_key", did)
        await self._downloads.car(document.pds, did, spool)
        key = key if self._verify_signatures else None
        snapshot = await self._threads(unpack, spool.contents(), did, key, self.collections)
        refuse_future(snapshot)
        if snapshot.rev < oldest:
            raise TryLater("stale_repo", f"{did} {snapshot.rev} instead of {oldest} or later")
        return snapshot


def refuse_future(snapshot: Snapshot) -> None:
    """A rev from the future would outlive every true one. Raises BadInput("future_rev")."""
    if snapshot.rev > tid_at(int((time.time() + FUTURE_SECONDS) * 1e6)):
        raise BadInput("future_rev", f"{snapshot.did} {snapshot.rev}")
