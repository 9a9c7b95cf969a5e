"""Commits and syncs that are wrong in one way are refused for it, of old servers too; leniency has its limits."""

import time
from typing import Any

import pytest

from common.dag_cbor import Link, cid_of, decode
from common.syntax import tid_at
from ingester.frame_reader import FrameReader
from ingester.framing import FrameResult, Proof
from ingester.verification import FUTURE_SECONDS, Mode
from tests.altered_commits import blocks_of
from tests.signed_commits import Body, frame
from tests.signed_repos import DID, Signer, car, commit, record
from tests.verifying import EVERYTHING, POSTS, SIGNER, Change, busy_writer, honest, read, told


def without_op(body: Body) -> Body:
    return body | {"ops": body["ops"][1:]}


def ahead(seconds: float) -> Body:
    body = busy_writer().write({})
    rev = tid_at(int((time.time() + seconds) * 1e6))
    return sealed_anew(body | {"rev": rev}, rev=rev)


def sealed_anew(body: Body, signer: Signer = SIGNER, **changes: Any) -> Body:
    """The commit object changed and signed, as the account would have."""
    (first, *rest) = blocks_of(body)
    signed = commit(decode(first)["data"], signer, **({"did": body["repo"], "rev": body["rev"]} | changes))
    return body | {"commit": Link(cid_of(signed)), "blocks": car(cid_of(signed), [signed, *rest])}


def with_blocks(body: Body, *more: bytes | tuple[bytes, bytes]) -> Body:
    return body | {"blocks": car(body["commit"], [*blocks_of(body), *more])}


def op_changed(body: Body, index: int, **changes: Any) -> Body:
    return body | {"ops": [op | changes if i == index else op for i, op in enumerate(body["ops"])]}


OTHER = Link(cid_of(b"other"))


def deleted(path: str) -> Body:
    return {"action": "delete", "path": path, "cid": None, "prev": OTHER}


WRONG: dict[str, tuple[Change, str]] = {
    "an operation kept back": (without_op, "inversion_failed"),
    "an operation twice": (lambda body: body | {"ops": [*body["ops"], body["ops"][0]]}, "bad_op"),
    "a delete that was not": (lambda body: body | {"ops": [*body["ops"], deleted(POSTS[5])]}, "ops_mismatch"),
    "a delete of what never was": (lambda body: body | {"ops": [*body["ops"], deleted(POSTS[39])]}, "inversion_failed"),
    "another record": (lambda body: op_changed(body, 0, cid=OTHER), "ops_mismatch"),
    "another record before": (lambda body: op_changed(body, 1, prev=OTHER), "inversion_failed"),
    "a delete with a record": (lambda body: op_changed(body, 2, cid=OTHER), "bad_op"),
    "a create with a record before": (lambda body: op_changed(body, 0, prev=OTHER), "bad_op"),
    "a record before that is no link": (lambda body: op_changed(body, 1, prev="bafytext"), "bad_op"),
    "no link to the record": (lambda body: op_changed(body, 0, cid=None), "bad_op"),
    "an unknown action": (lambda body: op_changed(body, 0, action="move"), "unknown_action"),
    "a path that no tree holds": (lambda body: op_changed(body, 0, path="app.bsky.feed.post"), "bad_path"),
    "no operation": (lambda body: body | {"ops": ["text"]}, "bad_op"),
    "another tree before": (lambda body: body | {"prevData": OTHER}, "inversion_failed"),
    "no tree before": (lambda body: body | {"prevData": "text"}, "bad_frame"),
    "another commit": (lambda body: body | {"commit": OTHER}, "commit_mismatch"),
    "another rev": (lambda body: body | {"rev": tid_at(1)}, "commit_mismatch"),
    "another repo": (lambda body: body | {"repo": DID[:-1] + "f"}, "commit_mismatch"),
    "a commit of version 2": (lambda body: sealed_anew(body, version=2), "bad_commit"),
    "no commit at the root": (lambda body: body | {"blocks": car(body["commit"], [record("x")])}, "bad_commit"),
    "a block that is another": (lambda body: with_blocks(body, (OTHER, b"not it")), "bad_block_hash"),
    "a raw block": (lambda body: with_blocks(body, (b"\x01\x55" + cid_of(b"raw")[2:], b"raw")), "bad_car"),
    "a tree that is none": (
        lambda body: sealed_anew(with_blocks(body, b"\xa0"), data=Link(cid_of(b"\xa0"))),
        "bad_mst",
    ),
    "no tree": (lambda body: sealed_anew(body, data=OTHER), "inversion_incomplete"),
    "somebody else's signature": (lambda body: sealed_anew(body, Signer(number=8)), "bad_signature"),
    "no operations that tell": (lambda body: body | {"tooBig": True}, "too_big"),
    "too many operations": (lambda body: body | {"ops": body["ops"] * 100}, "oversized"),
    "too many bytes": (lambda body: body | {"blocks": bytes(2_000_001)}, "oversized"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_commit_that_is_wrong_in_one_way_is_refused_for_it(name: str) -> None:
    change, reason = WRONG[name]
    body = change(honest())
    result = told(body)
    assert (result.events, result.dropped, result.received, result.link) == ((), {reason: 1}, 1, None)
    assert (result.desync, result.refused_rev) == ((body["repo"], reason), body["rev"])


@pytest.mark.parametrize("rev", [5, "yesterday"])
def test_what_is_no_rev_is_not_named_as_the_one_that_was_refused(rev: Any) -> None:
    result = told(honest() | {"rev": rev})
    assert (result.dropped, result.desync, result.refused_rev) == ({"bad_frame": 1}, (DID, "bad_frame"), "")


def test_a_rev_of_the_future_is_refused_and_nothing_is_fetched_for_it() -> None:
    result = told(ahead(FUTURE_SECONDS + 10))
    assert (result.dropped, result.desync) == ({"future_rev": 1}, None)
    assert told(ahead(FUTURE_SECONDS - 30)).proof is Proof.WHOLE


@pytest.mark.parametrize("reason", ["no_key", "no_did_document"])
def test_a_commit_of_an_account_without_a_key_is_refused_with_the_reason(reason: str) -> None:
    result = told(honest(), key=reason)
    assert (result.dropped, result.desync) == ({reason: 1}, (DID, reason))


def test_nothing_is_fetched_for_an_account_that_cannot_be() -> None:
    result = told(honest(), key="no_such_account")
    assert (result.dropped, result.desync) == ({"no_such_account": 1}, None)


SYNC_WRONG: dict[str, tuple[Change, str]] = {
    "another rev": (lambda body: body | {"rev": tid_at(1)}, "commit_mismatch"),
    "another repo": (lambda body: body | {"did": DID[:-1] + "f"}, "commit_mismatch"),
    "another root": (lambda body: body | {"blocks": car(cid_of(b"x"), blocks_of(body))}, "missing_block"),
    "no commit": (lambda body: body | {"blocks": car(cid_of(record("x")), [record("x")])}, "bad_commit"),
    "too many bytes": (lambda body: body | {"blocks": bytes(10_001)}, "oversized"),
}


@pytest.mark.parametrize("name", SYNC_WRONG)
def test_a_sync_that_is_wrong_in_one_way_is_refused_for_it(name: str) -> None:
    change, reason = SYNC_WRONG[name]
    body = change(busy_writer().sync())
    result = read(frame("#sync", body))
    assert (result.events, result.dropped, result.desync) == ((), {reason: 1}, (body["did"], reason))


def test_a_sync_that_another_key_signed_is_refused() -> None:
    result = read(frame("#sync", busy_writer().sync()), key=Signer(number=8).public)
    assert (result.events, result.dropped) == ((), {"bad_signature": 1})


def legacy(body: Body) -> Body:
    ops = [{name: value for name, value in op.items() if name != "prev"} for op in body["ops"]]
    return {name: value for name, value in body.items() if name != "prevData"} | {"ops": ops}


def test_a_commit_that_does_not_say_what_was_before_is_taken_by_its_signature() -> None:
    result = told(legacy(honest()))
    assert (result.proof, len(result.events), result.desync) == (Proof.LEGACY, 3, None)
    assert result.link is not None
    assert result.link.prev_data is None


def test_operations_that_do_not_say_what_was_before_make_a_commit_an_old_one() -> None:
    assert told(legacy(honest()) | {"prevData": honest()["prevData"]}).proof is Proof.LEGACY


@pytest.mark.parametrize(
    ("index", "change", "reason"),
    [
        (0, {"cid": OTHER}, "ops_mismatch"),
        (0, {"path": POSTS[38]}, "ops_mismatch"),
        (2, {"path": POSTS[7]}, "ops_mismatch"),
    ],
)
def test_an_old_server_must_have_written_what_it_says(index: int, change: Body, reason: str) -> None:
    assert told(op_changed(legacy(honest()), index, **change)).dropped == {reason: 1}


def test_of_an_old_server_a_delete_may_lack_its_proof_and_a_create_may_not() -> None:
    body = legacy(honest())
    top = decode(blocks_of(body)[0])["data"]
    shown = [block for block in blocks_of(body)[1:] if cid_of(block) == top]
    few = body | {"blocks": car(body["commit"], [blocks_of(body)[0], *shown])}
    assert told(few).dropped == {"inversion_incomplete": 1}
    assert told(few | {"ops": few["ops"][2:]}).proof is Proof.LEGACY


@pytest.mark.parametrize("change", [WRONG["another tree before"][0], WRONG["an operation kept back"][0]])
def test_told_to_be_lenient_it_takes_a_commit_that_does_not_lead_back_and_has_the_repo_fetched(change: Change) -> None:
    result = told(change(honest()), mode=Mode.LENIENT)
    assert result.proof is Proof.PARTIAL
    assert len(result.events) >= 2
    assert result.desync == (DID, "inversion_failed")


@pytest.mark.parametrize("name", ["another record", "somebody else's signature", "a tree that is none"])
def test_leniency_is_not_for_what_was_not_written(name: str) -> None:
    change, reason = WRONG[name]
    assert told(change(honest()), mode=Mode.LENIENT).dropped == {reason: 1}


def test_told_not_to_verify_it_asks_for_no_key() -> None:
    found = FrameReader(Mode.OFF, EVERYTHING).read(frame("#commit", WRONG["somebody else's signature"][0](honest())))
    assert isinstance(found, FrameResult)
    assert (found.proof, len(found.events)) == (Proof.NONE, 3)
