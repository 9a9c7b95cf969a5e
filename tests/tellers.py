"""Hosts that tell of repos, and what is written of it: one frame at a time, through the real script."""

import asyncio
import json
import math
from hashlib import sha256
from typing import Any

from msgspec import Raw
from msgspec.structs import replace
from redis.asyncio import Redis

from common.backpressure import Room
from common.chain import EMPTY_TREE
from common.dag_cbor import CBOR_CID
from common.events import AccountEvent, CreateEvent, IdentityEvent, RepoEvent, StreamEvent
from common.repo_states import FrameWriter, RepoStates
from common.streams import FIREHOSE_LIVE, REPO_BACKFILL_HIGH
from common.syntax import tid_at
from ingester.chain import told
from ingester.framing import ChainLink, FrameResult

ALICE, BOB = "did:plc:alicealicealicealicealic", "did:plc:bobbobbobbobbobbobbobbob"
EARLIER, LATER = "2026-11-20T22:33:50.655Z", "2026-11-20T22:33:50.657Z"
TIME = "2026-11-20T22:33:50.656Z"


def rev(number: int) -> str:
    return tid_at(1_700_000_000_000_000 + number)


def root(number: int) -> bytes:
    """The tree after commit `number`; before the first one there is nothing in it."""
    return EMPTY_TREE if number == 0 else CBOR_CID + sha256(b"%d" % number).digest()


def link(number: int, did: str = ALICE, **changes: Any) -> ChainLink:
    """Of the commit that follows the one before, unless told otherwise."""
    fields: dict[str, Any] = {
        "did": did,
        "rev": rev(number),
        "since": rev(number - 1),
        "data": root(number),
        "prev_data": root(number - 1),
        "is_sync": False,
    }
    return ChainLink(**(fields | changes))


class Teller:
    """One host as the ingester reads it: its numbers rise, its cursor is where it stopped."""

    def __init__(self, redis: Redis, name: str = "one.test", seq: int = 0) -> None:
        self.redis = redis
        self.name = name
        self.seq = seq
        self.cursor = ""
        self.cursor_key = f"firehose_live:cursor:{name}"
        room = Room(redis, FIREHOSE_LIVE, 1_000_000, memory_share=math.inf)
        self.writer = FrameWriter(redis, FIREHOSE_LIVE, "event", room, source_key=f"firehose_live:source:{name}")
        self.stop = asyncio.Event()

    async def commit(self, number: int, did: str = ALICE, **changes: Any) -> str:
        """The verdict."""
        return await self.tell(*self._commit(link(number, did, **changes)))

    async def sync(self, number: int, did: str = ALICE, **changes: Any) -> str:
        said = link(number, did, **({"since": None, "prev_data": None, "is_sync": True} | changes))
        event = RepoEvent(seq=self.seq + 1, time=TIME, did=did, commit="c", rev=said.rev)
        return await self.tell(self._result("#sync", event, link=said))

    async def account(self, *, active: bool, status: str | None = None, time: str = TIME, did: str = ALICE) -> str:
        event = AccountEvent(seq=self.seq + 1, time=time, did=did, active=active, status=status)
        return await self.tell(self._result("#account", event))

    async def identity(self, time: str = TIME, did: str = ALICE, handle: str | None = None) -> str:
        event = IdentityEvent(seq=self.seq + 1, time=time, did=did, handle=handle)
        return await self.tell(self._result("#identity", event))

    async def loss(self, reason: str = "bad_signature", did: str = ALICE, number: int | None = None) -> str:
        refused_rev = rev(number) if number else ""
        return await self.tell(self._result("#commit", desync=(did, reason), refused_rev=refused_rev))

    async def flawed(self, number: int, did: str = ALICE) -> str:
        """A commit of which one record is not there."""
        (result,) = self._commit(link(number, did))
        return await self.tell(replace(result, desync=(did, "missing_block")))

    async def commits(self, *numbers: int) -> str:
        """In one batch: the verdicts."""
        results = [self._commit(link(number), ahead=ahead)[0] for ahead, number in enumerate(numbers)]
        return await self.tell(*results)

    async def tell(self, *results: FrameResult) -> str:
        frames = [told(result, len(result.events), self.name).frame for result in results]
        last = str(self.seq + len(results))
        verdicts = await self.writer.append(frames, self.cursor_key, self.cursor, last, self.stop)
        assert verdicts is not None
        self.seq, self.cursor = int(last), last
        return verdicts

    async def set_back(self, seq: int) -> None:
        """As an operator does."""
        self.seq, self.cursor = seq, str(seq)
        await self.redis.set(self.cursor_key, self.cursor)

    def _commit(self, said: ChainLink, ahead: int = 0) -> tuple[FrameResult]:
        event = CreateEvent(
            seq=self.seq + 1 + ahead,
            time=TIME,
            did=said.did,
            commit="c",
            rev=said.rev,
            collection="app.bsky.feed.post",
            rkey=said.rev,
            cid="c",
            record=Raw(json.dumps({"host": self.name}).encode()),
        )
        return (self._result("#commit", event, link=said, ahead=ahead),)

    def _result(self, kind: str, *events: StreamEvent, ahead: int = 0, **more: Any) -> FrameResult:
        return FrameResult(kind=kind, seq=self.seq + 1 + ahead, time=TIME, events=events, received=len(events), **more)


async def written(redis: Redis) -> list[str]:
    """The revs of the commits and #syncs on the stream, in their order."""
    return [event["rev"] for event in await events(redis) if "rev" in event]


async def events(redis: Redis) -> list[dict[str, Any]]:
    entries: Any = await redis.xrange(FIREHOSE_LIVE)
    return [json.loads(fields[b"event"]) for _, fields in entries]


async def jobs(redis: Redis) -> list[tuple[str, str]]:
    """(did, reason) of what is queued for a backfill."""
    entries: Any = await redis.xrange(REPO_BACKFILL_HIGH)
    found = [json.loads(fields[b"repo"]) for _, fields in entries]
    assert all(job["priority"] == "high" for job in found)
    return [(job["did"], job["reason"]) for job in found]


async def settle(redis: Redis, number: int, did: str = ALICE, data: bytes | None = None) -> bool | None:
    """A snapshot at this commit is on its stream."""
    return await RepoStates(redis).settle(did, rev(number), data or root(number), asyncio.Event())


async def status(redis: Redis, did: str = ALICE) -> str:
    (state,) = await RepoStates(redis).read([did])
    return state.status + state.account if state else ""
