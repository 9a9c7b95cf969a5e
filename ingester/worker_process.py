"""A worker: reads and verifies frames for the daemon that started it, and ends when that closes its input or dies.

Both directions carry messages of a u32 length and a pickle, which only ever come from the other side's own code.
"""

import pickle
import signal
import struct
import sys
from collections.abc import Sequence
from typing import IO, Any

from msgspec import Struct

from common.collection_filter import CollectionFilter
from common.daemon import collect_garbage_seldom
from ingester.frame_reader import FrameReader, KeyAnswer, Outcome
from ingester.verification import Mode

LENGTH = struct.Struct(">I")
Job = tuple[bytes, KeyAnswer | None]


class Request(Struct, frozen=True):
    """Frames to read, in order; before that, DIDs whose keys are to be forgotten, and the filter as it is now."""

    jobs: Sequence[Job]
    forget: Sequence[str]
    collections: tuple[str, ...]


Reply = list[Outcome]


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
        for did in request.forget:
            reader.forget(did)
        _reply(replies, [reader.read(frame, answer) for frame, answer in request.jobs])


def _reply(replies: IO[bytes], outcomes: Reply) -> None:
    replies.write(packed(outcomes))
    replies.flush()


if __name__ == "__main__":
    for told_to_stop in (signal.SIGINT, signal.SIGTERM):  # the daemon decides when: it still needs what is in our hands
        signal.signal(told_to_stop, signal.SIG_IGN)
    collect_garbage_seldom()
    serve(sys.stdin.buffer, sys.stdout.buffer, FrameReader(Mode(sys.argv[1]), CollectionFilter(())))
