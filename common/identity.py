"""DID -> DID document: where a repo is and which key signs it (specs: did, did-method-plc, did-method-web)."""

import asyncio
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from libipld import encode_multibase
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError
from yarl import URL

from common.errors import BadInput, GiveUp, TryLater
from common.keys import PublicKey, key_in_document, key_of_did_key
from common.outbound import Outbound, Refused
from common.syntax import is_did

MAX_DOCUMENT_BYTES = 64 << 10
KEPT_SECONDS = 86_400.0
NOT_FOUND_KEPT_SECONDS = 60.0
FAILURE_KEPT_SECONDS = 1.0  # below any retry's wait, or a retry would fail from memory
AGING_SECONDS = 3600.0
REFRESH_AFTER_SECONDS = 10.0
SHARED_CACHE_SECONDS = 1.0
DIRECTORY_QUESTIONS = 16
DIRECTORY_REST_SECONDS = 10.0

_PLC = re.compile(r"did:plc:[a-z2-7]{24}")
_WEB = re.compile(r"did:web:([a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*)(?:%3A([0-9]{1,5}))?")
HANDLE = re.compile(r"([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")


@dataclass(frozen=True, slots=True)
class DidDocument:
    """What a DID document says that we use; None where it says nothing usable.

    `pds` and `labeler` are base URLs without a path. `handle` is a claim, to be verified in the other direction.
    """

    did: str
    pds: str | None = None
    signing_key: PublicKey | None = None
    handle: str | None = None
    labeler: str | None = None
    label_key: PublicKey | None = None


def parse_document(did: str, document: Any) -> DidDocument:
    """`document` is untrusted JSON. Raises BadInput("bad_did_document") unless it is this DID's."""
    if not isinstance(document, dict) or document.get("id") != did:
        raise BadInput("bad_did_document", f"not the document of {did}")
    return DidDocument(
        did,
        pds=_endpoint(document, did, "#atproto_pds", "AtprotoPersonalDataServer"),
        signing_key=_key(document, did, "#atproto"),
        handle=next(_handles(document), None),
        labeler=_endpoint(document, did, "#atproto_labeler", "AtprotoLabeler"),
        label_key=_key(document, did, "#atproto_label"),
    )


def document_url(did: str, plc_url: str) -> str:
    """Raises BadInput("bad_did"), or GiveUp("did_unsupported") for methods the network does not use."""
    if not is_did(did):
        raise BadInput("bad_did", did[:80])
    if _PLC.fullmatch(did):
        return f"{plc_url.rstrip('/')}/{did}"
    if web := _WEB.fullmatch(did):
        host, port = web.groups()
        # a port is for development: only the operator's allow list lets it through
        return f"http://{host}:{port}/.well-known/did.json" if port else f"https://{host}/.well-known/did.json"
    raise GiveUp("did_unsupported", did[:80])


def is_resolvable(did: str) -> bool:
    """Whether it is a DID of a method that the network uses."""
    return is_did(did) and (_PLC.fullmatch(did) or _WEB.fullmatch(did)) is not None


def did_key(key: PublicKey) -> str:
    """`did:key:z...`, the inverse of key_of_did_key."""
    codec = b"\xe7\x01" if key.curve == "k256" else b"\x80\x24"
    return "did:key:" + encode_multibase("z", codec + key.point)


def _endpoint(document: Mapping[str, Any], did: str, fragment: str, kind: str) -> str | None:
    services = document.get("service")
    for service in services if isinstance(services, list) else ():
        if not isinstance(service, dict) or service.get("id") not in (fragment, did + fragment):
            continue
        if service.get("type") == kind:
            return _base_url(service.get("serviceEndpoint"))
    return None


def _base_url(text: Any) -> str | None:
    """Scheme, host and optional port, or None. Whether it may be asked is for common.outbound to say."""
    if not isinstance(text, str) or len(text) > 512:
        return None
    try:
        url = URL(text)
        bare = url.scheme in ("http", "https") and url.host and url == url.origin() / ""
    except ValueError:
        return None
    return str(url.origin()) if bare else None


def _key(document: Mapping[str, Any], did: str, fragment: str) -> PublicKey | None:
    try:
        return key_in_document(document, did, fragment)
    except BadInput:
        return None


def _handles(document: Mapping[str, Any]) -> Iterator[str]:
    names = document.get("alsoKnownAs")
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and name.startswith("at://") and len(name) <= 258 and HANDLE.fullmatch(name[5:]):
            yield name[5:].lower()


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
        on_lookup: Callable[[str], None] = lambda result: None,
    ) -> None:
        """`on_lookup` hears how each question was answered: "memory", "shared", "network", "failed"."""
        self._outbound = outbound
        self._plc_url = plc_url
        self._shared = shared
        self._capacity = capacity
        self._on_lookup = on_lookup
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._under_way: dict[str, asyncio.Event] = {}
        self._directory = asyncio.Semaphore(DIRECTORY_QUESTIONS)
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
            self._on_lookup("memory")
        if isinstance(answer.outcome, DidDocument):
            return answer.outcome
        raise answer.outcome.with_traceback(None)

    async def forget(self, did: str) -> None:
        """The next to ask is answered from the source."""
        self._answers.pop(did, None)
        if self._shared is not None:
            pipe = self._shared.pipeline(transaction=False)
            pipe.delete(*_shared_keys(did))
            await self._write_shared(pipe)

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
            if isinstance(answer.outcome, TryLater) and (older := self._last_document(did)):
                return answer if refresh else self._kept_for_want_of_a_newer(did, older)
            self._answers[did] = answer
            self._answers.move_to_end(did)
            while len(self._answers) > self._capacity:
                self._answers.popitem(last=False)
            return answer
        finally:
            del self._under_way[did]
            done.set()

    async def _from_network(self, did: str) -> _Answer:
        try:
            document = await self._fetch(did)
        except (BadInput, TryLater, GiveUp) as error:
            self._on_lookup("failed")
            kept = NOT_FOUND_KEPT_SECONDS if isinstance(error, GiveUp) else FAILURE_KEPT_SECONDS
            return _Answer(error, time.monotonic(), time.monotonic() + kept)
        self._on_lookup("network")
        await self._share(document)
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
        document = await self._shared_document(did)
        if document is None:
            return None
        self._on_lookup("shared")
        # as old as it may be: a refresh never takes it for news
        return _Answer(document, -math.inf, time.monotonic() + KEPT_SECONDS)

    async def _shared_document(self, did: str) -> DidDocument | None:
        if self._shared is None:
            return None
        try:
            async with asyncio.timeout(SHARED_CACHE_SECONDS):
                key, pds = await self._shared.mget(*_shared_keys(did))
            if not isinstance(key, bytes) or not isinstance(pds, bytes):
                return None
            document = DidDocument(did, pds=_base_url(pds.decode()), signing_key=key_of_did_key(key.decode()))
        except (RedisError, OSError, UnicodeDecodeError, BadInput):
            return None
        return document if document.pds else None

    async def _share(self, document: DidDocument) -> None:
        if self._shared is None:
            return
        key, pds = document.signing_key, document.pds
        key_name, pds_name = _shared_keys(document.did)
        pipe = self._shared.pipeline(transaction=False)
        if key is None or pds is None:
            pipe.delete(key_name, pds_name)
        else:
            pipe.set(key_name, did_key(key), ex=int(KEPT_SECONDS))
            pipe.set(pds_name, pds, ex=int(KEPT_SECONDS))
        await self._write_shared(pipe)

    async def _write_shared(self, pipe: Pipeline) -> None:
        try:
            async with asyncio.timeout(SHARED_CACHE_SECONDS):
                await pipe.execute()
        except (RedisError, OSError):
            return  # a cache: whoever needs it asks the source


def _shared_keys(did: str) -> tuple[str, str]:
    return f"did:key:{did}", f"did:pds:{did}"
