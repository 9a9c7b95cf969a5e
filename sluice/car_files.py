"""CAR files from disk onto the stream of the backfillers, through the same verification."""

import time
from asyncio import Event
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path

from redis.asyncio import Redis

from backfiller.app import collections_of
from backfiller.ledger import Entry, Ledger, fingerprint, is_current
from backfiller.outcomes import DONE
from backfiller.publishing import Publisher
from backfiller.repos import Threads, refuse_future
from backfiller.settings import Settings
from backfiller.unpack import Snapshot, did_and_rev, unpack
from common.backpressure import Room
from common.errors import BadInput, CannotStart, TryLater
from common.events import EVENT_FIELD
from common.identity import Identities
from common.outbound import Outbound
from common.repo_states import RepoStates
from common.streams import StreamWriter

IN_MEMORY_BYTES = 4 << 20


def car_files(path: Path) -> list[Path]:
    """The file, or all `*.car` of the folder. Raises CannotStart."""
    files = sorted(path.glob("*.car")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise CannotStart(f"--car: {path} is no file, or a folder without *.car")
    return files


class CarLoader:
    """What was loaded already, at the same rev and with the same collections, is not loaded again."""

    def __init__(self, redis: Redis, settings: Settings, outbound: Outbound) -> None:
        room = Room(
            redis,
            settings.firehose_stream,
            settings.high_water_mark,
            memory_share=settings.memory_share,
            backfills=settings.backfill_stream,
        )
        self._ledger = Ledger(redis, settings.backfill_stream)
        self._identities = Identities(outbound, settings.plc_url)
        self._collections = collections_of(settings)
        self._verify = not settings.skip_signature_verification
        self._threads = Threads(ThreadPoolExecutor(1, "unpack"))
        output = StreamWriter(redis, settings.firehose_stream, EVENT_FIELD, room)
        self._publisher = Publisher(self._threads, output, RepoStates(redis), settings.batch_size)
        self._stop = Event()

    async def load(self, path: Path, *, force: bool) -> tuple[str, Entry]:
        """The DID and what became of it. Raises TryLater, BadInput, GiveUp."""
        with _opened(path) as car:
            did, rev = await self._threads(did_and_rev, car)
            known = await self._ledger.known(did, self._stop)
            if known and is_current(known, rev, self._collections) and not force:
                return did, known
            document = await self._identities.resolve(did)
            if self._verify and document.signing_key is None:
                raise BadInput("no_key", did)
            key = document.signing_key if self._verify else None
            snapshot = await self._threads(unpack, car, did, key, self._collections)
            refuse_future(snapshot)
            await self._publisher.publish(snapshot, self._stop)
            entry = _entry(snapshot)
            await self._ledger.write(did, entry)
            return did, entry


def _entry(snapshot: Snapshot) -> Entry:
    emitted = snapshot.records - snapshot.unreadable
    counts = emitted, snapshot.filtered, snapshot.unreadable
    return Entry(DONE, snapshot.rev, int(time.time() * 1000), *counts, note=fingerprint(snapshot.collections))


@contextmanager
def _opened(path: Path) -> Iterator[bytes | mmap]:
    """Raises BadInput("bad_car"), TryLater("truncated_car")."""
    try:
        size = path.stat().st_size
        if size <= IN_MEMORY_BYTES:
            yield path.read_bytes()
            return
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            yield mapped
    except OSError as error:
        raise TryLater("unreadable_file", str(error)) from error
