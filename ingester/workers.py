"""Worker processes that read and verify frames: few frames at a time, replaced when they die, gone when we are."""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from common.errors import BadInput
from common.keys import PublicKey
from common.retry import Backoff
from ingester.controls import LiveFilter
from ingester.frame_reader import KeyAnswer, Outcome
from ingester.metrics import count_worker_death
from ingester.verification import Mode
from ingester.worker_process import LENGTH, Reply, Request, packed, unpacked

BATCH_FRAMES, BATCH_BYTES = 32, 1 << 20
FRAMES_IN_HAND = 2 * BATCH_FRAMES  # a batch is there when the one before is done
BATCH_SECONDS = 60.0
START_SECONDS = 60.0
STOP_SECONDS = 5.0
DEATHS_OF_A_FRAME = 3
MOST_KEYS = 1000  # that wait to be told to a worker which has nothing to read
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")  # and none of our secrets

log = logging.getLogger(__name__)


class Job:
    """A frame until it has been read. `deaths`: how many workers have died of it, as far as can be told."""

    __slots__ = ("answer", "deaths", "frame", "outcome")

    def __init__(self, frame: bytes, answer: KeyAnswer | None, outcome: "asyncio.Future[Outcome]") -> None:
        self.frame = frame
        self.answer = answer
        self.outcome = outcome
        self.deaths = 0

    def settle(self, outcome: Outcome) -> None:
        if not self.outcome.done():  # whoever asked may have gone
            self.outcome.set_result(outcome)


class Worker:
    """A process, and the two ends of the pipes to it."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("a process without pipes")
        self.process = process
        self._requests, self._replies = process.stdin, process.stdout

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    def send(self, request: Request) -> None:
        """Never waits: there are few requests at a time, and a worker that is replying reads none."""
        self._requests.write(packed(request))

    async def reply(self, seconds: float) -> Reply | None:
        """None if it has died, or takes too long."""
        try:
            async with asyncio.timeout(seconds):
                head = await self._replies.readexactly(LENGTH.size)
                reply: Reply = unpacked(await self._replies.readexactly(*LENGTH.unpack(head)))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            return None
        return reply

    async def end(self) -> None:
        """It ends when its input does; what hangs is killed."""
        self._requests.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class Workers:
    """An async context manager. Whoever asks for frames to be read bounds how many there are at a time."""

    def __init__(self, count: int, mode: Mode, filter: LiveFilter, *, module: str = "ingester.worker_process") -> None:
        """`module` is what a worker runs."""
        self._filter = filter
        self._mode = mode
        self._module = module
        self._count = count
        self._waiting: deque[Job] = deque()
        self._work = asyncio.Event()
        self._keys: list[dict[str, PublicKey | None]] = [{} for _ in range(count)]
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._tasks = [self._group.create_task(self._keep_one_running(number)) for number in range(self._count)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    def read(self, frame: bytes, answer: KeyAnswer | None = None) -> "asyncio.Future[Outcome]":
        """A frame that kills workers is BadInput("killed_workers").

        One with an answer goes before all that wait: it was there before them, and its turn may have come.
        """
        job = Job(frame, answer, asyncio.get_running_loop().create_future())
        if answer is None:
            self._waiting.append(job)
        else:
            self._tell(answer.did, answer.key)
            self._waiting.appendleft(job)
        self._work.set()
        return job.outcome

    def forget(self, did: str) -> None:
        self._tell(did, None)

    def _tell(self, did: str, key: PublicKey | None) -> None:
        """What one worker has asked for, the others need not ask for."""
        for keys in self._keys:
            keys[did] = key
            if len(keys) == MOST_KEYS:
                self._work.set()

    async def _keep_one_running(self, number: int) -> None:
        """Raises RuntimeError if one gives up by itself before it is there: that is no frame's fault, but ours."""
        backoff = Backoff()
        while True:
            in_hand: deque[list[Job]] = deque()
            async with self._process() as worker:
                is_there = await worker.reply(START_SECONDS) is not None
                if is_there:
                    has_replied = await self._feed(worker, number, in_hand)
                    backoff = Backoff() if has_replied else backoff
            code = worker.process.returncode or 0
            if not is_there and code >= 0:
                raise RuntimeError("a worker process does not start; what it said stands above")
            count_worker_death()
            fields = {"code": code, "frames_in_hand": sum(map(len, in_hand))}
            log.error("a worker died, starting another", extra=fields)
            self._take_back(in_hand)
            await asyncio.sleep(backoff.next_seconds())

    async def _feed(self, worker: Worker, number: int, in_hand: deque[list[Job]]) -> bool:
        """Until it dies; whether it has been of use. What has gone to it and not come back is in hand."""
        has_replied = False
        while True:
            while sum(map(len, in_hand)) < FRAMES_IN_HAND and (self._waiting or not in_hand):
                if not await self._until_there_is_work(worker, number):
                    return has_replied
                in_hand.append(self._batch())
                worker.send(self._request(in_hand[-1], number))
            reply = await worker.reply(BATCH_SECONDS)
            if reply is None:
                return has_replied
            has_replied = True
            for job, outcome in zip(in_hand.popleft(), reply, strict=True):
                job.settle(outcome)

    async def _until_there_is_work(self, worker: Worker, number: int) -> bool:
        """Frames to read, or many keys to know; False if it dies before."""
        while not self._waiting and worker.is_alive and len(self._keys[number]) < MOST_KEYS:
            self._work.clear()
            await self._work.wait()
        return worker.is_alive

    def _batch(self) -> list[Job]:
        """A frame that a worker may have died of goes alone, so that no other is suspected."""
        batch: list[Job] = []
        size = 0
        while self._waiting and len(batch) < BATCH_FRAMES and size < BATCH_BYTES:
            if self._waiting[0].deaths and batch:
                break
            job = self._waiting.popleft()
            if job.outcome.done():
                continue
            batch.append(job)
            size += len(job.frame)
            if job.deaths:
                break
        return batch

    def _request(self, batch: list[Job], number: int) -> Request:
        keys, self._keys[number] = self._keys[number], {}
        return Request([(job.frame, job.answer) for job in batch], keys, self._filter.current.patterns)

    def _take_back(self, in_hand: deque[list[Job]]) -> None:
        """The batch in front is the one that it died of. All go first in the queue again, in their order."""
        for job in in_hand[0] if in_hand else ():
            job.deaths += 1
        for job in reversed([job for batch in in_hand for job in batch]):
            if job.deaths < DEATHS_OF_A_FRAME:
                self._waiting.appendleft(job)
            else:
                log.error("giving up a frame that kills workers", extra={"size": len(job.frame)})
                job.settle(BadInput("killed_workers"))
        self._work.set()

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[Worker]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._module, self._mode),
            stdin=PIPE,
            stdout=PIPE,
            limit=BATCH_BYTES,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        )
        worker, watching = Worker(process), asyncio.create_task(self._wake_at_the_end_of(process))
        try:
            yield worker
        finally:
            await worker.end()
            await watching

    async def _wake_at_the_end_of(self, process: Process) -> None:
        """Whoever waits for work with it sees that it is dead."""
        await process.wait()
        self._work.set()
