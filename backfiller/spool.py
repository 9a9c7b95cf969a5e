"""Where a repo is while it is in hand: in memory if it is small and there is room, else in a file without a name."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from mmap import ACCESS_READ, mmap
from typing import IO

from common.errors import TryLater

WAIT_SECONDS = 5.0


class Allowance:
    """Bytes that may be in hand together. Nobody waits while holding some, so nobody can wait for ever."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.in_hand = 0

    def take(self, size: int) -> bool:
        if self.in_hand + size > self._max_bytes:
            return False
        self.in_hand += size
        return True


class Spool:
    """The bytes of one repo, as they come."""

    def __init__(self, memory: Allowance, disk: Allowance, folder: str | None, largest_in_memory: int) -> None:
        self._memory = memory
        self._disk = disk
        self._folder = folder
        self._largest_in_memory = largest_in_memory
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._map: mmap | None = None
        self.size = 0

    def write(self, part: bytes) -> None:
        """Raises TryLater("disk_full")."""
        if self._file is None and self.size + len(part) <= self._largest_in_memory and self._memory.take(len(part)):
            self._parts.append(part)
            self.size += len(part)
            return
        if self._file is None:
            self._move_to_file()
        self._write_to_file(part)

    def contents(self) -> bytes | mmap:
        """Everything, until it is cleared. Raises TryLater("disk_full")."""
        if self._file is None:
            self._parts = [b"".join(self._parts)]
            return self._parts[0]
        if self._map is None:
            with _full_disk_later():
                self._file.flush()
                self._map = mmap(self._file.fileno(), 0, access=ACCESS_READ)
        return self._map

    def clear(self) -> None:
        """Empty, and all of its bytes given back."""
        if self._file is None:
            self._memory.in_hand -= self.size
        else:
            self._disk.in_hand -= self.size
            with suppress(OSError):  # what could not be written is not wanted any more
                self._file.close()
        if self._map is not None:
            self._map.close()
        self._parts, self._file, self._map, self.size = [], None, None, 0

    def _move_to_file(self) -> None:
        parts, size = self._parts, self.size
        self.clear()
        with _full_disk_later():
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=1 << 20)  # noqa: SIM115 - closed in clear
        if size:
            self._write_to_file(b"".join(parts))

    def _write_to_file(self, part: bytes) -> None:
        if self._file is None or not self._disk.take(len(part)):
            raise TryLater("disk_full", seconds=WAIT_SECONDS)
        self.size += len(part)
        with _full_disk_later():
            self._file.write(part)


@contextmanager
def _full_disk_later() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TryLater("disk_full", str(error), WAIT_SECONDS) from error


class Spools:
    """All spools of this process: what is in memory and what is on disk is bounded over all of them."""

    def __init__(self, *, memory_bytes: int, disk_bytes: int, largest_in_memory: int, folder: str | None) -> None:
        self.memory = Allowance(memory_bytes)
        self.disk = Allowance(disk_bytes)
        self._folder = folder
        self._largest_in_memory = largest_in_memory

    @contextmanager
    def open(self) -> Iterator[Spool]:
        spool = Spool(self.memory, self.disk, self._folder, self._largest_in_memory)
        try:
            yield spool
        finally:
            spool.clear()
