"""A made-up event on its way through a deployment, and without a trace afterwards."""

import asyncio
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
from msgspec import Raw
from redis.asyncio import Redis

from common.dag_cbor import cid_of, cid_text, encode
from common.events import EVENT_FIELD, CreateEvent, DeleteEvent, encode_event
from common.streams import FIREHOSE_LIVE
from common.syntax import tid_at, utc_text
from indexer.names import Names

POLL_SECONDS = 0.05
# read by no one but the AppView's own chat, it makes no row but its own, and tells nobody anything
COLLECTION, RKEY = "chat.bsky.actor.declaration", "self"
_RECORD = {"$type": COLLECTION, "allowIncoming": "none"}
# what else there is of an account that once had a record, by DID or by URI
_TRACES = (
    ("uri", "DELETE FROM {app}.record WHERE uri = $1"),
    ("did", "DELETE FROM {app}.actor WHERE did = $1"),
    ("did", "DELETE FROM {app}.actor_sync WHERE did = $1"),
    ("uri", "DELETE FROM {own}.tombstone WHERE uri = $1"),
    ("uri", "DELETE FROM {own}.life WHERE uri = $1"),
    ("did", "DELETE FROM {own}.repo WHERE did = $1"),
    ("did", "DELETE FROM {own}.handle_check WHERE did = $1"),
)


@dataclass(frozen=True, slots=True)
class Journey:
    """Seconds from the stream to the row, and from its delete on the stream until the row was gone; None: too long."""

    written: float | None
    removed: float | None


class MarkedEvent:
    """A record of an account that cannot exist: no name under .invalid ever resolves (RFC 2606)."""

    def __init__(self, redis: Redis, connection: asyncpg.Connection, names: Names) -> None:
        self._redis = redis
        self._connection = connection
        self._names = names
        self.did = f"did:web:sluice-verify-{secrets.token_hex(8)}.invalid"
        self.uri = f"at://{self.did}/{COLLECTION}/{RKEY}"

    async def travel(self, bound_seconds: float) -> Journey:
        """There and back. Where the way was too long the delete still follows, so that nothing is seen of it later."""
        written = await self._seen(self._create(), bound_seconds, stands=True)
        removed = await self._seen(self._delete(), bound_seconds, stands=False)
        await self._remove_traces()
        return Journey(written, removed if written is not None else None)

    async def _seen(self, payload: bytes, bound_seconds: float, *, stands: bool) -> float | None:
        """Seconds until the record stands in Postgres, or does not, as wanted."""
        started = time.monotonic()
        await self._redis.xadd(FIREHOSE_LIVE, {EVENT_FIELD: payload})
        question = self._names.fill("SELECT EXISTS (SELECT FROM {app}.record WHERE uri = $1)")
        while await self._connection.fetchval(question, self.uri) != stands:
            if time.monotonic() - started > bound_seconds:
                return None
            await asyncio.sleep(POLL_SECONDS)
        return time.monotonic() - started

    def _create(self) -> bytes:
        block = encode(_RECORD)
        record = Raw(b'{"$type":"chat.bsky.actor.declaration","allowIncoming":"none"}')
        return encode_event(CreateEvent(cid=cid_text(cid_of(block)), record=record, **self._common()))

    def _delete(self) -> bytes:
        return encode_event(DeleteEvent(**self._common()))

    def _common(self) -> dict[str, Any]:
        now = datetime.now(UTC)
        return {
            "seq": -1,
            "time": utc_text(now),
            "did": self.did,
            "commit": cid_text(cid_of(encode({"made up": self.did}))),
            "rev": tid_at(int(now.timestamp() * 1_000_000)),
            "collection": COLLECTION,
            "rkey": RKEY,
        }

    async def _remove_traces(self) -> None:
        keys = {"uri": self.uri, "did": self.did}
        async with self._connection.transaction():
            for key, statement in _TRACES:
                await self._connection.execute(self._names.fill(statement), keys[key])
