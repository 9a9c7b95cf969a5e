"""A worker: reads and verifies frames for the daemon that started it, and ends when that closes its input or dies.

Both directions carry messages of a u32 length and a pickle, which only ever come from the other side's own code.
"""

import copyreg
import fcntl
import pickle
import signal
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from msgspec import Struct, UnsetType

from common.collection_filter import CollectionFilter
from common.daemon import collect_garbage_seldom
from common.keys import PublicKey
from ingester.frame_reader import FrameReader, KeyAnswer, Outcome
from ingester.verification import Mode

LENGTH = struct.Struct(">I")
PIPE_BYTES = 1 << 20
Job = tuple[bytes, KeyAnswer | None]


class Request(Struct, frozen=True):
    """Frames to read, in order; before that, keys that have become known (None: to be forgotten), and the filter."""

    jobs: Sequence[Job]
    keys: Mapping[str, PublicKey | None]
    collections: tuple[str, ...]


Reply = list[Outcome]
copyreg.pickle(UnsetType, lambda _: (UnsetType, ()))  # or pickle looks for UNSET in every module, for each message


def packed(message: object) -> bytes:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def unpacked(data: bytes) -> Any:
    return pickle.loads(data)  # noqa: S301 - see above


def serve(requests: IO[bytes], replies: IO[bytes], reader: FrameReader) -> None:
    """An empty reply says that we are there."""
    collections: tuple[str, ...] = ()
    _reply(replies, [])
    while len(head := requests.read(LENGTH.size)) == LENGTH.size:
        request: Request = unpacked(requests.read(*LENGTH.unpack(head)))
        if request.collections != collections:
            collections = request.collections
            reader.is_wanted = CollectionFilter(collections)
        for did, key in request.keys.items():
            reader.learn(did, key)
        _reply(replies, [reader.read(frame, answer) for frame, answer in request.jobs])


def _reply(replies: IO[bytes], outcomes: Reply) -> None:
    replies.write(packed(outcomes))
    replies.flush()


def _widen(pipe: IO[bytes]) -> None:
    """So that the next request is all there when this one is done: what a pipe has no room for waits for the daemon."""
    with suppress(AttributeError, OSError):  # not on every system, and not without end for every user
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


if __name__ == "__main__":
    for told_to_stop in (signal.SIGINT, signal.SIGTERM):  # the daemon decides when: it still needs what is in our hands
        signal.signal(told_to_stop, signal.SIG_IGN)
    collect_garbage_seldom()
    _widen(sys.stdin.buffer)
    serve(sys.stdin.buffer, sys.stdout.buffer, FrameReader(Mode(sys.argv[1]), CollectionFilter(())))
