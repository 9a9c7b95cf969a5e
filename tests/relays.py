"""A recorded network as other relays tell it: in another order, by other numbers, with losses."""

import dataclasses
import random
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from common.dag_cbor import decode_header_and_body, encode
from sluice.recording import Frames, Recording


def retold(recording: Recording, seed: int) -> Recording:
    """Each repo's frames in their order, between those of other repos; other numbers, with gaps."""
    chance = random.Random(seed)
    by_repo: dict[str, deque[bytes]] = defaultdict(deque)
    for frame in recording.frames:
        by_repo[did_of(frame)].append(frame)
    frames, seq = [], chance.randrange(10**9)
    turns = [did for did, of_repo in by_repo.items() for _ in of_repo]
    blocks = [turns[start : start + 200] for start in range(0, len(turns), 200)]
    chance.shuffle(blocks)
    mixed = [did for block in blocks for did in chance.sample(block, len(block))]
    for did in mixed:
        seq += chance.choice((1, 1, 1, 7))
        frames.append(renumbered(by_repo[did].popleft(), seq))
    return with_frames(recording, frames)


def inserted(recording: Recording, frames: Mapping[int, tuple[str, dict[str, Any]]]) -> Recording:
    """Frames of a type and with a body of their own, each before the recorded one at its index; all numbered anew."""
    told = list(recording.frames)
    for index in sorted(frames, reverse=True):
        kind, body = frames[index]
        told.insert(index, encode({"op": 1, "t": kind}) + encode({"seq": 1, **body}))
    return with_frames(recording, [renumbered(frame, seq) for seq, frame in enumerate(told, start=1)])


def with_frames(recording: Recording, frames: Sequence[bytes]) -> Recording:
    data = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    return dataclasses.replace(recording, frames=Frames(data, 0, len(data)))


def renumbered(frame: bytes, seq: int) -> bytes:
    """The number stands in the envelope, which nobody signs."""
    _, body = decode_header_and_body(frame)
    old = encode("seq") + encode(body["seq"])
    assert frame.count(old) == 1
    return frame.replace(old, encode("seq") + encode(seq))


def did_of(frame: bytes) -> str:
    _, body = decode_header_and_body(frame)
    return str(body.get("repo") or body["did"])
