"""What is known of each repo: its newest rev and root and whether we are in step with it, beside the streams.

Moved only by scripts, each in one step with the entries that it follows from, so that any number of ingesters and
backfillers share it (docs/decisions/0010).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from common.backpressure import Room
from common.chain import KEY, Frame, RepoState, packed_data, packed_rev, place_of, state_of
from common.redis_connection import outlast
from common.streams import Fenced

_SCRIPTS = Path(__file__).with_name("lua")


def _script(name: str) -> str:
    return "".join((_SCRIPTS / f"{part}.lua").read_text() for part in ("repo_state", name))


@dataclass(frozen=True)
class Counts:
    repos: int
    desynchronised: int


class FrameWriter:
    """As StreamWriter.append_with_cursor, for frames that another source may have told already."""

    def __init__(self, redis: Redis, stream: str, field: str, room: Room, *, source_key: str) -> None:
        """`source_key` holds how far this source has ever told us everything, and the verdicts on its last frames."""
        self._redis = redis
        self._stream = stream
        self._field = field
        self._room = room
        self._source_key = source_key
        self._append = redis.register_script(_script("append_frames"))

    async def append(
        self, frames: Sequence[Frame], cursor_key: str, expected: str, new: str, stop: asyncio.Event
    ) -> str | None:
        """A verdict for each frame, a letter of common/chain.py; None if told to stop first. Raises Fenced."""
        if not await self._room.wait(stop):
            return None
        keys = [self._stream, cursor_key, self._source_key]
        args: list[str | bytes] = [self._field, expected, new]
        for frame in frames:
            args += [frame.step, *frame.payloads]
        answer: Any = await outlast(stop, lambda: self._append(keys=keys, args=args))
        if answer is None:
            return None
        if answer[0] == b"FENCED":
            raise Fenced(answer[1].decode())
        self._room.observe(answer[1])
        verdicts = str(answer[2].decode())
        if len(verdicts) != len(frames):  # the cursor is where we wanted it, by another's batch that began elsewhere
            raise Fenced(new)
        return verdicts


class RepoStates:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._settle = redis.register_script(_script("settle"))

    async def read(self, dids: Sequence[str]) -> list[RepoState | None]:
        """In the order of `dids`; None for a repo that we have never heard of."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for did in dids:
                bucket, field = place_of(did)
                pipe.hget(f"{KEY}:{bucket}", field)
            found: list[Any] = await pipe.execute()
        return [state_of(raw) if raw else None for raw in found]

    async def settle(self, did: str, rev: str, data: bytes, stop: asyncio.Event) -> bool | None:
        """A whole snapshot at `rev`, whose root is the raw CID `data`, is on its stream.

        False if it is older than what the repo fell out of step by: it must be fetched again. None if told to stop.
        """
        bucket, field = place_of(did)
        args: list[bytes] = [field, packed_rev(rev), packed_data(data)]
        answer: Any = await outlast(stop, lambda: self._settle(keys=[f"{KEY}:{bucket}"], args=args))
        return None if answer is None else answer == b"OK"

    async def counts(self) -> Counts:
        found: Any = await self._redis.hmget(KEY, ["repos", "desynchronised"])
        return Counts(*(int(number or 0) for number in found))
