"""Commits of a network as busy as the real one: with any one byte altered, they are refused.

RECORDING=a load pack tries a sample of all its commits; `make vectors` does.
"""

import json
import os
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from common.dag_cbor import Link, decode_header_and_body
from common.errors import BadInput
from common.keys import PublicKey, key_in_document, key_of_multikey
from ingester.framing import FrameResult, Proof
from sluice.recording import Recording
from tests import recorded_frames
from tests.altered_commits import altered, sealed
from tests.signed_commits import Body, frame
from tests.verifying import read

DATA = Path(__file__).parents[1] / "data" / "frames"
MOST_COMMITS = 1000
TRIES = 8  # of each commit, in each place
Alter = Callable[[Body, random.Random], Body | None]


@cache
def commits() -> list[tuple[Body, PublicKey]]:
    if recording := os.environ.get("RECORDING"):
        return list(sampled(Path(recording)))
    keys = {did: key_of_multikey(key) for did, key in json.loads((DATA / "load-1-keys.json").read_text()).items()}
    bodies = [body_of(raw) for raw in recorded_frames.frames(DATA / "load-1.bin")]
    return [(body, keys[body["repo"]]) for body in bodies]


def sampled(path: Path) -> Iterator[tuple[Body, PublicKey]]:
    with Recording.open(path) as recording:
        every = max(1, len(recording.frames) // MOST_COMMITS)
        for raw in list(recording.frames)[::every]:
            if decode_header_and_body(raw)[0]["t"] == "#commit":
                body = body_of(raw)
                yield body, key_in_document(recording.dids[body["repo"]], body["repo"])


def body_of(raw: bytes) -> Body:
    """As it can be encoded again."""
    _, body = decode_header_and_body(raw)
    ops = [op | {name: Link(op[name]) for name in ("cid", "prev") if op.get(name)} for op in body["ops"]]
    links = {name: Link(body[name]) for name in ("commit", "prevData")}
    return body | links | {"ops": ops, "blobs": []}


def told(body: Body, key: PublicKey) -> FrameResult | None:
    """None if the frame cannot even be read."""
    try:
        return read(frame("#commit", body), key)
    except BadInput:
        return None


def one_bit(value: Any, chance: random.Random) -> Any:
    """Of text the bits that leave it text."""
    raw = value.encode() if isinstance(value, str) else bytes(value)
    changed = altered(raw, chance.randrange(len(raw)), chance.randrange(7 if isinstance(value, str) else 8))
    return changed.decode() if isinstance(value, str) else type(value)(changed)


def of_envelope(name: str) -> Alter:
    return lambda body, chance: body | {name: one_bit(body[name], chance)}


def of_signed(name: str) -> Alter:
    """All hashes and the envelope's CID are right again."""
    return lambda body, chance: sealed(body, lambda fields: fields | {name: one_bit(fields[name], chance)})


def of_operation(name: str) -> Alter:
    def alter(body: Body, chance: random.Random) -> Body | None:
        having = [index for index, op in enumerate(body["ops"]) if op.get(name)]
        if not having:
            return None
        ops = list(body["ops"])
        index = chance.choice(having)
        ops[index] = ops[index] | {name: one_bit(ops[index][name], chance)}
        return body | {"ops": ops}

    return alter


PLACES: dict[str, Alter] = {
    "the CAR": of_envelope("blocks"),
    "prevData": of_envelope("prevData"),
    "the rev": of_envelope("rev"),
    "the repo": of_envelope("repo"),
    "the commit's CID": of_envelope("commit"),
    "the signature": of_signed("sig"),
    "the signed rev": of_signed("rev"),
    "the signed DID": of_signed("did"),
    "the signed root": of_signed("data"),
    "an operation's CID": of_operation("cid"),
    "an operation's former CID": of_operation("prev"),
    "an operation's path": of_operation("path"),
    "an operation's action": of_operation("action"),
}


def test_the_commits_are_honest() -> None:
    """And of every kind: otherwise nothing would be tried."""
    results = [told(body, key) for body, key in commits()]
    assert {result and result.proof for result in results} == {Proof.WHOLE}
    actions = {op["action"] for body, _ in commits() for op in body["ops"]}
    assert (len(results) >= 50, actions) == (True, {"create", "update", "delete"})


@pytest.mark.parametrize("place", PLACES)
def test_no_commit_survives_an_altered_bit(place: str) -> None:
    chance, tried = random.Random(place), 0
    for body, key in commits():
        for _ in range(TRIES):
            changed = PLACES[place](body, chance)
            if changed is None:
                continue
            result = told(changed, key)
            tried += 1
            assert result is None or (result.events == () and result.link is None and result.dropped), changed
    assert tried >= TRIES
