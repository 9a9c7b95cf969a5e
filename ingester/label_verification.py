"""Whether a label is the word of the labeler at this host: its `src` and its signature (spec: label, signing labels).

Where a host is configured by its name, its labeler is the first `src` whose DID document names this host as the
labeler's endpoint; whoever else is named as `src` from then on is foreign, and nobody is asked about them.
"""

import asyncio
import logging
from collections.abc import Sequence

from yarl import URL

from common.did_documents import DidDocument
from common.errors import BadInput, GiveUp, TryLater
from common.events import Label
from common.identity import Identities
from common.keys import verify
from common.retry import Backoff
from ingester.accounts import Account
from ingester.framing import FrameResult, Signed
from ingester.label_frames import labels_of, without_refused
from ingester.upstream import Upstream

SIGNATURE_BYTES = 64
TURN_LABELS = 32  # verified before others get their turn: a frame may hold thousands, and each takes up to 0.4 ms
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 60.0

log = logging.getLogger(__name__)


class LabelVerification:
    """Verifies the frames of one host. A DID document that cannot be had is waited for: nothing is guessed or lost.

    Meanwhile this host's cursor stays where it is; other hosts have a verification of their own.
    """

    def __init__(self, identities: Identities, upstream: Upstream, account: Account, did: str = "") -> None:
        """`identities` must know labelers: one without a shared cache. `did` is the labeler's, where it is known."""
        self._identities = identities
        self._upstream = upstream
        self._account = account
        self._did = did  # the labeler's, once it is known
        self._complaints: set[str] = set()

    async def verified(self, result: FrameResult) -> FrameResult:
        """The frame without the labels that are refused. May be cancelled at any time."""
        if not result.signed:
            return result
        refusals = await self._refusals(labels_of(result), result.signed)
        self._complain_of(refusals, result.seq)
        return without_refused(result, refusals)

    async def _refusals(self, labels: Sequence[Label], signed: Sequence[Signed]) -> list[str]:
        refusals: list[str] = []
        for label, its in zip(labels, signed, strict=True):
            refusals.append(await self._refusal(label.src, its))
            if len(refusals) % TURN_LABELS == 0:
                await asyncio.sleep(0)
        return refusals

    async def _refusal(self, src: str, signed: Signed) -> str:
        if not await self._is_ours(src):
            return "foreign_src"
        if len(signed.signature) != SIGNATURE_BYTES:
            return "bad_signature"
        if _is_signed(signed, await self._document(src)):
            return ""
        # the key may be a new one; Identities asks again at most every few seconds
        return "" if _is_signed(signed, await self._document(src, refresh=True)) else "bad_signature"

    async def _is_ours(self, src: str) -> bool:
        if not self._did:
            document = await self._document(src, refresh=True)
            if document is not None and _names(document, self._upstream):
                self._did = src
                log.info("labeler found", extra={"host": self._upstream.host, "did": src})
        return src == self._did

    async def _document(self, did: str, *, refresh: bool = False) -> DidDocument | None:
        """None if there is no such DID."""
        backoff = Backoff(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        while True:
            try:
                return await self._identities.resolve(did, refresh=refresh)
            except (BadInput, GiveUp, TryLater) as failure:
                if isinstance(failure, GiveUp) and not self._may_come_back(did, failure):
                    return None
                self._account.error("no_did_document")
                if not backoff.failures:
                    fields = {"host": self._upstream.host, "did": did, "detail": str(failure)[:200]}
                    log.warning("no DID document to verify labels with, waiting", extra=fields)
                asked = failure.seconds if isinstance(failure, TryLater) else None
                await asyncio.sleep(max(backoff.next_seconds(), asked or 0.0))

    def _may_come_back(self, did: str, failure: GiveUp) -> bool:
        """A labeler that was there has not gone because its document is not found now: a did:web is but a file."""
        return failure.reason == "did_not_found" and did == self._did

    def _complain_of(self, refusals: Sequence[str], seq: int) -> None:
        """A line for each reason, once; the rest is counted."""
        for reason in sorted({*refusals} - {""} - self._complaints):
            fields = {"host": self._upstream.host, "did": self._did, "reason": reason, "seq": seq}
            log.warning("labels refused", extra=fields)
            self._complaints.add(reason)


def _is_signed(signed: Signed, document: DidDocument | None) -> bool:
    key = document.label_key if document else None
    return key is not None and verify(key, signed.message, signed.signature)


def _names(document: DidDocument, upstream: Upstream) -> bool:
    return document.labeler is not None and _origin(document.labeler) == _origin(upstream.http_url)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """The port also where it is the scheme's own, the host as it stands in DNS."""
    parsed = URL(url)
    return parsed.scheme, parsed.raw_host, parsed.port
