"""Undoing commits: the former tree comes back from no more nodes than it takes, and from nothing else."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from common.car import read_car
from common.dag_cbor import cid_from_text, cid_of
from common.errors import BadInput
from common.inversion import Change, Changes, KnownTree, check_outcome, known_tree, leads_back_to, top_of
from common.repo import depth_of, read_commit
from tests.recorded_frames import commits
from tests.refusals import refusal
from tests.signed_repos import Blocks, node, tree

VECTORS = Path(__file__).parents[1] / "data" / "vectors"
PROOFS = json.loads((VECTORS / "atproto-interop/firehose/commit-proof-fixtures.json").read_text())
KEYS = [f"app.bsky.feed.like/3mfxgt2k7{number:04d}" for number in range(200)]
OLD, NEW, OTHER = (cid_of(name) for name in (b"old", b"new", b"other"))
Records = Mapping[str, bytes]


def verdict(blocks: Blocks, data: bytes, prev_data: bytes, changes: Changes) -> str:
    """ "right", "wrong", or the reason of a refusal."""
    try:
        known = known_tree(blocks, data)
        check_outcome(known, changes)
        return "right" if leads_back_to(prev_data, known, changes) else "wrong"
    except BadInput as bad:
        return bad.reason


def changes_between(before: Records, after: Records) -> dict[bytes, Change]:
    paths = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    return {path.encode(): Change(before.get(path), after.get(path)) for path in paths}


def raw(text: str | None) -> bytes | None:
    return None if text is None else bytes(cid_from_text(text))


# vectors


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof["comment"])
def test_the_proofs_of_the_vectors_are_enough(proof: dict[str, Any]) -> None:
    value = cid_from_text(proof["leafValue"])
    before = dict.fromkeys(proof["keys"], value)
    after = {key: value for key in {*proof["keys"], *proof["adds"]} - {*proof["dels"]}}
    data, nodes = tree(after)
    assert (tree(before)[0], data) == (raw(proof["rootBeforeCommit"]), raw(proof["rootAfterCommit"]))
    shown = {cid: block for cid, block in nodes.items() if cid in map(raw, proof["blocksInProof"])}
    assert verdict(shown, data, tree(before)[0], changes_between(before, after)) == "right"


def test_every_pair_of_trees_of_the_suite_leads_back_by_its_least_proof() -> None:
    suite = VECTORS / "mst-suite"
    cars = {path.name: read_car(path.read_bytes()) for path in suite.glob("*.car")}
    verdicts = []
    with zstandard.open(suite / "exhaustive_diff_cases.jsonl.zst") as lines:
        for case in map(json.loads, lines.read().splitlines()):
            before, after = (cars[Path(case["inputs"][name]).name] for name in ("mst_a", "mst_b"))
            results = case["results"]
            proof = {cid: after.blocks[cid] for cid in map(cid_from_text, results["inductive_proof_nodes"])}
            changes = {
                op["rpath"].encode(): Change(raw(op["old_value"]), raw(op["new_value"])) for op in results["record_ops"]
            }
            # where nothing was done, the suite has no proof: then the top is enough
            shown = proof or {after.root: after.blocks[after.root]}
            verdicts.append(verdict(shown, after.root, before.root, changes))
    assert (len(verdicts), set(verdicts)) == (128 * 128, {"right"})


def test_every_recorded_commit_leads_back_to_the_one_before() -> None:
    verdicts = []
    for body in commits():
        if prev_data := body.get("prevData"):
            blocks = read_car(body["blocks"]).blocks
            changes = {op["path"].encode(): Change(op.get("prev"), op["cid"]) for op in body["ops"]}
            verdicts.append(verdict(blocks, read_commit(blocks[body["commit"]]).data, prev_data, changes))
    assert (len(verdicts), set(verdicts)) == (36, {"right"})


# any history


@st.composite
def histories(draw: st.DrawFn) -> tuple[Records, Records]:
    """A repo, and what it is after some creates, updates and deletes."""
    before = dict.fromkeys(draw(st.sets(st.sampled_from(KEYS), max_size=60)), OLD)
    after = before | dict.fromkeys(draw(st.sets(st.sampled_from(KEYS), max_size=6)), NEW)
    gone = draw(st.sets(st.sampled_from(sorted(after)), max_size=4)) if after else set()
    return before, {path: cid for path, cid in after.items() if path not in gone}


@given(histories())
def test_any_commit_leads_back_when_all_nodes_are_there(history: tuple[Records, Records]) -> None:
    before, after = history
    data, nodes = tree(after)
    assert verdict(nodes, data, tree(before)[0], changes_between(before, after)) == "right"


@given(histories(), st.randoms(use_true_random=False))
def test_a_missing_node_is_at_worst_not_enough(history: tuple[Records, Records], chance: random.Random) -> None:
    before, after = history
    data, nodes = tree(after)
    shown = {cid: block for cid, block in nodes.items() if chance.random() < 0.7}
    found = verdict(shown, data, tree(before)[0], changes_between(before, after))
    assert found in ("right", "inversion_incomplete")


@given(histories(), st.sampled_from(KEYS), st.sampled_from([None, OLD, NEW, OTHER]), st.booleans())
def test_another_change_never_leads_back(
    history: tuple[Records, Records], path: str, cid: bytes | None, is_before: bool
) -> None:
    before, after = history
    data, nodes = tree(after)
    changes = changes_between(before, after)
    honest = changes.get(path.encode(), Change(after.get(path), after.get(path)))
    told = honest._replace(before=cid) if is_before else honest._replace(after=cid)
    assume(told != honest)
    assert verdict(nodes, data, tree(before)[0], changes | {path.encode(): told}) in ("wrong", "ops_mismatch")


@given(histories(), st.randoms(use_true_random=False))
def test_a_change_that_is_kept_back_is_noticed(history: tuple[Records, Records], chance: random.Random) -> None:
    before, after = history
    changes = changes_between(before, after)
    assume(changes)
    del changes[chance.choice(sorted(changes))]
    data, nodes = tree(after)
    assert verdict(nodes, data, tree(before)[0], changes) == "wrong"


# one case each


def of_height(height: int, *, after: bytes = b"") -> bytes:
    return next(key for key in map(str.encode, KEYS) if depth_of(key) == height and key > after)


LOW = of_height(0)
HIGH = of_height(1, after=LOW)
LATER = of_height(0, after=HIGH)


def test_a_tree_without_records_is_the_empty_node() -> None:
    assert top_of([]) == tree({})[0] == cid_of(node(None, []))


def test_the_last_record_gone_leads_back_from_nothing() -> None:
    data, nodes = tree({})
    before, _ = tree({KEYS[0]: OLD})
    assert verdict(nodes, data, before, {KEYS[0].encode(): Change(OLD, None)}) == "right"


def test_a_top_without_keys_is_led_back_to_as_real_software_signs_it() -> None:
    data, nodes = tree({LOW.decode(): OLD})
    before = cid_of(node(cid_of(node(None, [])), []))
    assert verdict(nodes, data, before, {LOW: Change(None, OLD)}) == "right"


def test_a_delete_beside_a_subtree_that_is_not_there_is_not_proven() -> None:
    data, nodes = tree({LOW.decode(): OLD, HIGH.decode(): OLD, LATER.decode(): OLD})
    shown = {data: nodes[data]}
    before, _ = tree({HIGH.decode(): OLD})
    assert verdict(shown, data, before, {LOW: Change(None, OLD)}) == "inversion_incomplete"
    assert verdict(shown, data, before, {LATER: Change(OLD, None)}) == "inversion_incomplete"
    assert verdict(shown, data, before, {HIGH: Change(None, OLD)}) == "inversion_incomplete"


def test_without_its_top_a_tree_is_not_known_at_all() -> None:
    assert refusal(known_tree, {}, OLD) == "inversion_incomplete"
    top = node(OTHER, [])
    assert refusal(known_tree, {cid_of(top): top}, cid_of(top)) == "inversion_incomplete"


def test_a_subtree_that_no_key_stands_above_cannot_be_placed() -> None:
    tree_of_two = KnownTree([(LOW, OLD, 0), (b"", OTHER, 2)])
    assert refusal(top_of, tree_of_two.items) == "inversion_incomplete"


def two_of_a_node(first: bytes, second: bytes) -> bytes:
    shared = next(at for at in range(len(first)) if first[at] != second[at])
    return node(None, [(0, first, None, OLD), (shared, second[shared:], None, OLD)])


@pytest.mark.parametrize(
    ("top", "below"),
    [
        (node(None, [(0, LATER, None, OLD), (0, LOW, None, OLD)]), b""),
        (node(None, [(0, HIGH, cid_of(node(None, [])), OLD)]), node(None, [])),
        (node(None, [(0, HIGH, cid_of(node(None, [(0, LOW, None, OLD)])), OLD)]), node(None, [(0, LOW, None, OLD)])),
        (node(None, [(0, LOW, OTHER, OLD)]), b""),
        (two_of_a_node(HIGH, LATER), b""),
        (node(None, [(0, b"no slash", None, OLD)]), b""),
        (b"\xa0", b""),
    ],
    ids=["descending", "empty subtree", "out of order", "below the lowest", "another height", "no path", "no node"],
)
def test_a_wrong_tree_is_refused(top: bytes, below: bytes) -> None:
    assert refusal(known_tree, {cid_of(block): block for block in (top, below)}, cid_of(top)) == "bad_mst"
