"""DID -> DID document: asked for once, remembered, and asked for again when it may have changed."""

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter
from redis.asyncio import Redis

from common.did_documents import DidDocument, document_url, parse_document
from common.errors import BadInput, GiveUp, TryLater
from common.outbound import Outbound, Refused
from common.shared_documents import SharedDocuments

MAX_DOCUMENT_BYTES = 64 << 10
KEPT_SECONDS = 86_400.0
NOT_FOUND_KEPT_SECONDS = 60.0
FAILURE_KEPT_SECONDS = 1.0  # below any retry's wait, or a retry would fail from memory
AGING_SECONDS = 3600.0
REFRESH_AFTER_SECONDS = 10.0
DIRECTORY_QUESTIONS = 16
DIRECTORY_REST_SECONDS = 10.0

LOOKUPS = Counter("sluice_identity_lookups", "DID documents looked up, by where the answer was.", ["result"])
for _result in ("memory", "shared", "network", "failed"):
    LOOKUPS.labels(_result)


@dataclass(frozen=True, slots=True)
class _Answer:
    outcome: DidDocument | BadInput | TryLater | GiveUp
    since: float
    until: float


class Identities:
    """Looks DIDs up, remembers the answers for a day, and asks once for many who ask at the same time.

    `shared` is a second cache, in Redis, that other processes fill too. It holds the key and the PDS only: leave it
    out where handles or labelers are wanted. When it is away, it is as if it were empty.
    """

    def __init__(
        self,
        outbound: Outbound,
        plc_url: str,
        *,
        shared: Redis | None = None,
        capacity: int = 20_000,
        questions: int = DIRECTORY_QUESTIONS,
    ) -> None:
        """`capacity`: documents remembered; `questions`: how many at a time to the directory of did:plc."""
        self._outbound = outbound
        self._plc_url = plc_url
        self._shared = SharedDocuments(shared, KEPT_SECONDS) if shared is not None else None
        self._capacity = capacity
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._under_way: dict[str, asyncio.Event] = {}
        self._outdated: set[str] = set()  # under way, and to be asked for once more
        self._directory = asyncio.Semaphore(questions)
        self._directory_rests_until = 0.0

    async def resolve(self, did: str, *, refresh: bool = False) -> DidDocument:
        """With `refresh` only an answer of the last REFRESH_AFTER_SECONDS will do, straight from the source.

        Raises GiveUp: "did_not_found", "did_tombstoned", "did_unsupported"; BadInput: "bad_did", "bad_did_document" and
        the reasons of common.outbound; TryLater.
        """
        oldest = time.monotonic() - REFRESH_AFTER_SECONDS if refresh else -math.inf
        while (answer := self._remembered(did, oldest)) is None:
            if (under_way := self._under_way.get(did)) is None:
                answer = await self._ask(did, refresh)
                break
            await under_way.wait()
        else:
            LOOKUPS.labels("memory").inc()
        if isinstance(answer.outcome, DidDocument):
            return answer.outcome
        raise answer.outcome.with_traceback(None)

    async def forget(self, did: str) -> None:
        """The next to ask is answered from the source, and so is who is asking now: anew."""
        self._answers.pop(did, None)
        if did in self._under_way:
            self._outdated.add(did)
        if self._shared is not None:
            await self._shared.forget(did)

    def knows(self, did: str) -> bool:
        """Whether there is an answer in memory, be it that there is no such DID."""
        return self._remembered(did, -math.inf) is not None

    def is_aging(self, did: str) -> bool:
        """Whether it is time to refresh a document in memory, which still is an answer for most of a day."""
        answer = self._answers.get(did)
        if answer is None or not isinstance(answer.outcome, DidDocument):
            return False
        return answer.until - time.monotonic() < KEPT_SECONDS - AGING_SECONDS

    def _last_document(self, did: str) -> DidDocument | None:
        answer = self._answers.get(did)
        return answer.outcome if answer and isinstance(answer.outcome, DidDocument) else None

    def _kept_for_want_of_a_newer(self, did: str, document: DidDocument) -> _Answer:
        """While the source is away, the last document that it gave is better than none."""
        answer = _Answer(document, -math.inf, time.monotonic() + NOT_FOUND_KEPT_SECONDS)
        self._answers[did] = answer
        return answer

    def _remembered(self, did: str, oldest: float) -> _Answer | None:
        answer = self._answers.get(did)
        if answer is None or answer.since < oldest or answer.until <= time.monotonic():
            return None
        self._answers.move_to_end(did)
        return answer

    async def _ask(self, did: str, refresh: bool) -> _Answer:
        done = self._under_way[did] = asyncio.Event()
        try:
            answer = await self._from_redis(did) if not refresh else None
            answer = answer or await self._from_network(did)
            if did in self._outdated:
                answer = await self._from_network(did)
            if isinstance(answer.outcome, TryLater) and (older := self._last_document(did)):
                return answer if refresh else self._kept_for_want_of_a_newer(did, older)
            self._answers[did] = answer
            self._answers.move_to_end(did)
            while len(self._answers) > self._capacity:
                self._answers.popitem(last=False)
            return answer
        finally:
            del self._under_way[did]
            self._outdated.discard(did)
            done.set()

    async def _from_network(self, did: str) -> _Answer:
        try:
            document = await self._fetch(did)
        except (BadInput, TryLater, GiveUp) as error:
            LOOKUPS.labels("failed").inc()
            kept = NOT_FOUND_KEPT_SECONDS if isinstance(error, GiveUp) else FAILURE_KEPT_SECONDS
            return _Answer(error, time.monotonic(), time.monotonic() + kept)
        LOOKUPS.labels("network").inc()
        if self._shared is not None:
            await self._shared.put(document)
        return _Answer(document, time.monotonic(), time.monotonic() + KEPT_SECONDS)

    async def _fetch(self, did: str) -> DidDocument:
        url = document_url(did, self._plc_url)
        ask = self._ask_directory if did.startswith("did:plc:") else self._ask_host
        try:
            return parse_document(did, await ask(url))
        except Refused as refused:
            if refused.status == 404:
                raise GiveUp("did_not_found", did) from refused
            if refused.status == 410:
                raise GiveUp("did_tombstoned", did) from refused
            raise TryLater("server_error", str(refused)) from refused

    async def _ask_host(self, url: str) -> Any:
        return await self._outbound.get_json(url, MAX_DOCUMENT_BYTES)

    async def _ask_directory(self, url: str) -> Any:
        """There is one for everybody, so we keep to a few questions at a time, and to the rest that it asks for."""
        async with self._directory:
            if (rest := self._directory_rests_until - time.monotonic()) > 0:
                raise TryLater("rate_limited", self._plc_url, rest)
            try:
                return await self._ask_host(url)
            except TryLater as error:
                if error.reason == "rate_limited":
                    self._directory_rests_until = time.monotonic() + (error.seconds or DIRECTORY_REST_SECONDS)
                raise

    async def _from_redis(self, did: str) -> _Answer | None:
        document = await self._shared.get(did) if self._shared is not None else None
        if document is None:
            return None
        LOOKUPS.labels("shared").inc()
        # as old as it may be: a refresh never takes it for news
        return _Answer(document, -math.inf, time.monotonic() + KEPT_SECONDS)
