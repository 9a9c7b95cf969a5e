"""A snapshot goes to the output, in batches, and then the live commits of its repo go on from it."""

import asyncio
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime

from backfiller.repos import Threads
from backfiller.unpack import Snapshot
from common.errors import TryLater
from common.repo_states import RepoStates
from common.streams import StreamWriter
from common.syntax import utc_text

MAX_BATCH = 500
MAX_BATCH_BYTES = 4 << 20


class Publisher:
    def __init__(self, threads: Threads, output: StreamWriter, states: RepoStates, batch_size: int) -> None:
        self._threads = threads
        self._output = output
        self._states = states
        self._batch_size = min(batch_size, MAX_BATCH)

    async def publish(self, snapshot: Snapshot, stop: asyncio.Event) -> bool:
        """False if told to stop before all of it was done.

        Raises TryLater("stale_repo") for a host that serves less than its commits have told: what it has is taken, and
        must be fetched again later.
        """
        if not await self._write(snapshot, stop):
            return False
        settled = await self._states.settle(snapshot.did, snapshot.rev, snapshot.data, stop)
        if settled is False:
            raise TryLater("stale_repo", f"{snapshot.did} {snapshot.rev} is older than what we fell out of step by")
        return settled is not None

    async def _write(self, snapshot: Snapshot, stop: asyncio.Event) -> bool:
        """The closing event goes last: who has seen it has seen the others."""
        drawn = snapshot.payloads(utc_text(datetime.now(UTC)))
        while payloads := await self._threads(next_of, drawn, self._batch_size, MAX_BATCH_BYTES):
            if not await self._output.append(payloads, stop):
                return False
        return True


def next_of(drawn: Iterator[bytes], most: int, most_bytes: int) -> list[bytes]:
    """The next payloads for the output: up to `most`, or as many as go just beyond `most_bytes`; none at the end."""
    payloads, size = [], 0
    for payload in itertools.islice(drawn, most):
        payloads.append(payload)
        size += len(payload)
        if size >= most_bytes:
            break
    return payloads
