"""Keys and PDSes of DIDs in Redis, where every process finds what another has asked for.

A cache: while it is away, it is as if it were empty.
"""

import asyncio

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from common.did_documents import DidDocument, base_url, did_key
from common.errors import BadInput
from common.keys import key_of_did_key

SECONDS = 1.0


class SharedDocuments:
    """Documents with nothing in them but the signing key and the PDS."""

    def __init__(self, redis: Redis, kept_seconds: float) -> None:
        self._redis = redis
        self._kept_seconds = int(kept_seconds)

    async def get(self, did: str) -> DidDocument | None:
        try:
            async with asyncio.timeout(SECONDS):
                key, pds = await self._redis.mget(*_names(did))
            if not isinstance(key, bytes) or not isinstance(pds, bytes):
                return None
            document = DidDocument(did, pds=base_url(pds.decode()), signing_key=key_of_did_key(key.decode()))
        except (RedisError, OSError, UnicodeDecodeError, BadInput):
            return None
        return document if document.pds else None

    async def put(self, document: DidDocument) -> None:
        """One without a key or a PDS takes the place of none, and of any before."""
        if document.signing_key is None or document.pds is None:
            return await self.forget(document.did)
        key, pds = _names(document.did)
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(key, did_key(document.signing_key), ex=self._kept_seconds)
        pipe.set(pds, document.pds, ex=self._kept_seconds)
        return await _sent(pipe)

    async def forget(self, did: str) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.delete(*_names(did))
        await _sent(pipe)


async def _sent(pipe: Pipeline) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            await pipe.execute()
    except (RedisError, OSError):
        return  # whoever needs it asks the source


def _names(did: str) -> tuple[str, str]:
    return f"did:key:{did}", f"did:pds:{did}"
