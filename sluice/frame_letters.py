"""Dead letters of a third kind: frames that the ingester gave up. They can be looked at, and dropped."""

from base64 import b64encode
from collections.abc import AsyncIterator

from redis.asyncio import Redis

from common.errors import BadInput
from ingester.dead_frames import DeadFrame, buried, forget
from sluice.dead_letters import FRAME, Letter


class FrameLetters:
    """What ingester/dead_frames.py keeps. The payload is in base64, for a frame is no text."""

    kind = FRAME

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def letters(self) -> AsyncIterator[Letter]:
        async for dead in buried(self._redis):
            yield _letter(dead)

    async def replay(self, letter: Letter) -> None:
        """Raises BadInput: what it said is fetched from the repos, if it is known whose it was."""
        raise BadInput("frame", "frames are not sent again; see why it was given up")

    async def drop(self, letter: Letter) -> None:
        await forget(self._redis, letter.number)


def _letter(dead: DeadFrame) -> Letter:
    where = f"seq {dead.seq}" if dead.seq else f"after seq {dead.after}"
    kept = "" if len(dead.start) == dead.size else f", the first {len(dead.start):,} kept"
    size = "too large to be received" if dead.reason == "oversized_frame" else f"{dead.size:,} bytes{kept}"
    about = f"{dead.source}/{dead.host} {where}"
    return Letter(f"{FRAME}:{dead.id}", about, dead.reason, size, dead.at, b64encode(dead.start), dead.source)
