"""How many bytes of repos may be in hand together: whatever is downloaded, unpacked or waiting for the output."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from common.errors import TryLater

WAIT_SECONDS = 5.0


class Memory:
    """Counts bytes against a limit. Nobody waits while holding some, so nobody can wait for ever."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.in_hand = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Takes bytes, raising TryLater("memory_full") where there are no more; they are given back at the end."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if self.in_hand + size > self._max_bytes:
                raise TryLater("memory_full", seconds=WAIT_SECONDS)
            taken += size
            self.in_hand += size

        try:
            yield take
        finally:
            self.in_hand -= taken
