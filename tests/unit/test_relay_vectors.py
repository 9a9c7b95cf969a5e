"""What other relays pass on and drop, as far as one frame can tell; the rest is up to a repo's history."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from common.car import read_car
from common.collection_filter import CollectionFilter
from common.dag_cbor import cid_from_text
from common.dag_json import json_to_block
from common.inversion import Change, check_outcome, known_tree
from common.keys import key_of_multikey
from common.repo import read_commit
from ingester.frame_reader import FrameReader, KeyAnswer, Want
from ingester.framing import FrameResult, Proof
from ingester.verification import Mode

VECTORS = Path(__file__).parents[1] / "data" / "vectors" / "relay"
SCENARIOS = {
    path.stem: json.loads(path.read_text())
    for path in sorted(VECTORS.glob("*.json"))
    if not path.stem.startswith("firehose_commit")
}
BEFORE_SYNC_1_1 = sorted(VECTORS.glob("firehose_commit_*.json"))
# what these scenarios drop for the order of revs and sequence numbers, or for the state of an account
BY_HISTORY = {("deactivation", 102), ("seq_ordering", 1000), ("seq_ordering", 5)}


def messages() -> list[Any]:
    return [
        pytest.param(name, scenario, message, id=f"{name}-{number}")
        for name, scenario in SCENARIOS.items()
        for number, message in enumerate(scenario["messages"])
    ]


def identity(account: dict[str, Any]) -> dict[str, Any]:
    return dict(account["identity"])


def block(value: dict[str, Any]) -> bytes:
    return json_to_block(json.dumps(value).encode())


@pytest.mark.parametrize(("name", "scenario", "message"), messages())
def test_a_relays_frame_passes_or_is_dropped_as_elsewhere(
    name: str, scenario: dict[str, Any], message: dict[str, Any]
) -> None:
    keys = {it["did"]: it["keys"]["atproto"]["publicKeyMultibase"] for it in map(identity, scenario["accounts"])}
    raw = block(message["frame"]["header"]) + block(message["frame"]["body"])
    reader = FrameReader(Mode.STRICT, CollectionFilter(("*",)))
    found = reader.read(raw)
    if isinstance(found, Want):
        found = reader.read(raw, KeyAnswer(found.did, key_of_multikey(keys[found.did]), is_newest=True))
    assert isinstance(found, FrameResult)
    is_dropped = bool(message.get("drop")) and (name, found.seq) not in BY_HISTORY
    assert bool(found.dropped) == is_dropped
    if found.kind == "#commit" and not is_dropped:
        assert found.proof is (Proof.LEGACY if scenario["lenient"] else Proof.WHOLE)


@pytest.mark.parametrize("path", BEFORE_SYNC_1_1, ids=lambda path: path.stem)
def test_a_real_commit_from_before_sync_1_1_has_written_what_it_says(path: Path) -> None:
    """Whose keys are not among the vectors: what is looked at is the tree."""
    body = json.loads(path.read_text())
    blocks = read_car(b64decode(body["blocks"]["$bytes"] + "==")).blocks
    signed = read_commit(blocks[cid_from_text(body["commit"]["$link"])])
    assert (signed.did, signed.rev) == (body["repo"], body["rev"])
    changes = {op["path"].encode(): Change(None, cid_from_text(op["cid"]["$link"])) for op in body["ops"]}
    check_outcome(known_tree(blocks, signed.data), changes)
