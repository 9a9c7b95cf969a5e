"""What is refused of commits, and what is not: honest ones pass, and one byte makes the difference."""

import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from common.collection_filter import CollectionFilter
from common.dag_cbor import Link, cid_of, decode, decode_header_and_body, encode
from common.errors import BadInput
from common.events import RepoEvent
from common.inversion import EMPTY_TREE
from common.keys import PublicKey, key_in_document
from common.syntax import tid_at
from ingester.accounts import FIREHOSE
from ingester.frame_reader import FrameReader, KeyAnswer, Want
from ingester.framing import FrameResult, Proof
from ingester.verification import FUTURE_SECONDS, Mode
from sluice.recording import Recording
from tests.altered_commits import altered, blocks_of, sealed
from tests.conftest import OpenRecording
from tests.signed_commits import Body, Writer, frame
from tests.signed_repos import DID, Signer, car, commit, record

VECTORS = Path(__file__).parents[1] / "data" / "vectors"
EVERYTHING = CollectionFilter(("*",))
SIGNER = Signer()
POSTS = [f"app.bsky.feed.post/3mfxgt2k7{number:04d}" for number in range(40)]
Change = Callable[[Body], Body]


def read(raw: bytes, key: PublicKey | str = SIGNER.public, mode: Mode = Mode.STRICT) -> FrameResult:
    """With the newest key of whoever it is of; or, for a text, with that for a reason why there is none."""
    reader = FrameReader(mode, EVERYTHING)
    found = reader.read(raw)
    if isinstance(found, Want):
        known = isinstance(key, PublicKey)
        found = reader.read(raw, KeyAnswer(found.did, key if known else None, True, "" if known else str(key)))
    if isinstance(found, BadInput):
        raise found
    assert isinstance(found, FrameResult)
    assert set(found.dropped) <= set(FIREHOSE.drop_reasons)
    return found


def busy_writer() -> Writer:
    writer = Writer(signer=SIGNER)
    writer.write({path: record(path) for path in POSTS[:30]})
    return writer


def some_commit() -> Body:
    """A create, an update and a delete in a repo of 30 records."""
    return busy_writer().write({POSTS[33]: record("new"), POSTS[4]: record("newer"), POSTS[9]: None})


def told(body: Body, **options: Any) -> FrameResult:
    return read(frame("#commit", body), **options)


# honest commits


def test_an_honest_commit_is_whole_and_says_what_it_did() -> None:
    result = told(some_commit())
    assert (result.proof, result.dropped, result.desync) == (Proof.WHOLE, {}, None)
    assert [event.action for event in result.events] == ["create", "update", "delete"]
    assert result.link is not None
    assert result.link.prev_data is not None


def test_a_commit_that_only_moves_the_rev_is_whole() -> None:
    result = told(busy_writer().write({}))
    assert (result.proof, [type(event) for event in result.events]) == (Proof.WHOLE, [RepoEvent])


@pytest.mark.parametrize("records", [{}, {POSTS[0]: record("first")}], ids=["empty", "with a record"])
def test_the_first_commit_of_a_repo_need_not_say_that_there_was_nothing(records: dict[str, bytes]) -> None:
    result = told(Writer(signer=SIGNER).write(records) | {"prevData": None})
    assert result.proof is Proof.WHOLE
    assert result.link is not None
    assert result.link.prev_data == EMPTY_TREE


def test_a_sync_is_the_accounts_word_of_what_its_repo_is_now() -> None:
    writer = busy_writer()
    result = read(frame("#sync", writer.sync()))
    assert (result.proof, len(result.events), result.dropped) == (Proof.SIGNED, 1, {})
    assert result.link is not None
    assert result.link.is_sync


def test_a_p256_key_is_as_good() -> None:
    signer = Signer("p256")
    assert told(Writer(signer=signer).write({POSTS[0]: record("one")}), key=signer.public).proof is Proof.WHOLE


@pytest.mark.parametrize("name", ["basic", "follows", "full", "load-tiny"])
def test_every_recorded_frame_is_whole(recording: OpenRecording, name: str) -> None:
    network = recording(name)
    results = [read(raw, key=key_of(network, raw)) for raw in network.frames]
    assert Counter(reason for result in results for reason in result.dropped) == {}
    assert {result.proof for result in results if result.kind == "#commit"} == {Proof.WHOLE}
    assert {result.proof for result in results if result.kind == "#sync"} == {Proof.SIGNED}
    assert all(result.desync is None for result in results)


def key_of(network: Recording, raw: bytes) -> PublicKey | str:
    _, body = decode_header_and_body(raw)
    did = body.get("repo") or body["did"]
    document = network.dids.get(did)
    return key_in_document(document, did) if document else "no_did_document"


# one byte


@cache
def honest() -> Body:
    return some_commit()


bits = st.integers(0, 7)


def is_refused(body: Body) -> bool:
    """As a commit, or already as a frame that cannot be read."""
    try:
        result = told(body)
    except BadInput:
        return True
    return result.events == () and result.received == sum(result.dropped.values()) == 1 and result.link is None


@given(st.integers(0, len(honest()["blocks"]) - 1), bits)
def test_no_bit_of_the_car_can_be_another(at: int, bit: int) -> None:
    assert is_refused(honest() | {"blocks": altered(honest()["blocks"], at, bit)})


def test_no_byte_of_the_car_can_be_another() -> None:
    """Each once, in the order in which they stand."""
    blocks = honest()["blocks"]
    assert all(is_refused(honest() | {"blocks": altered(blocks, at, at % 8)}) for at in range(len(blocks)))


@given(st.integers(0, 63), bits)
def test_no_bit_of_the_signature_can_be_another(at: int, bit: int) -> None:
    body = sealed(honest(), lambda fields: fields | {"sig": altered(fields["sig"], at, bit)})
    assert told(body).dropped == {"bad_signature": 1}


@given(st.sampled_from(["rev", "did"]), st.data())
def test_no_byte_of_what_was_signed_can_be_another(name: str, data: st.DataObject) -> None:
    def change(fields: dict[str, Any]) -> dict[str, Any]:
        text = fields[name].encode()
        at = data.draw(st.integers(0, len(text) - 1))
        return fields | {name: altered(text, at, data.draw(st.integers(0, 5))).decode()}

    assert is_refused(sealed(honest(), change))


@given(st.integers(0, 2), st.sampled_from(["cid", "prev", "path", "action"]), st.data())
def test_no_byte_of_an_operation_can_be_another(index: int, name: str, data: st.DataObject) -> None:
    op = honest()["ops"][index]
    value = op.get(name)
    assume(value is not None)
    raw = value.encode() if isinstance(value, str) else value
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = altered(raw, at, data.draw(st.integers(0, 6)))
    told_value = changed.decode() if isinstance(value, str) else Link(changed)
    ops = [op | {name: told_value} if op is each else each for each in honest()["ops"]]
    assert is_refused(honest() | {"ops": ops})


@given(st.integers(0, 35), bits)
def test_no_bit_of_what_was_before_can_be_another(at: int, bit: int) -> None:
    assert is_refused(honest() | {"prevData": Link(altered(honest()["prevData"], at, bit))})


@given(st.sampled_from(["rev", "repo"]), st.data())
def test_no_byte_of_the_envelope_can_be_another(name: str, data: st.DataObject) -> None:
    text = honest()[name].encode()
    at = data.draw(st.integers(0, len(text) - 1))
    assert is_refused(honest() | {name: altered(text, at, data.draw(st.integers(0, 6))).decode()})


def test_no_recorded_commit_survives_an_altered_byte(recording: OpenRecording) -> None:
    """A sample of the CARs that real software made, a byte of each in turn."""
    network = recording("full")
    commits = [raw for raw in network.frames if decode_header_and_body(raw)[0]["t"] == "#commit"]
    for number, raw in enumerate(commits[::3]):
        _, body = decode_header_and_body(raw)
        at = number * 7919 % len(body["blocks"])
        changed = raw.replace(body["blocks"], altered(body["blocks"], at, number % 8))
        assert read(changed, key=key_of(network, raw)).events == ()


# ways to be wrong


def without_op(body: Body) -> Body:
    return body | {"ops": body["ops"][1:]}


def rev_at(seconds: float) -> str:
    return tid_at(int((time.time() + seconds) * 1e6))


def ahead(seconds: float) -> Body:
    writer = busy_writer()
    body = writer.write({})
    rev = rev_at(seconds)
    return sealed_anew(body | {"rev": rev}, rev=rev)


def sealed_anew(body: Body, **changes: Any) -> Body:
    """The commit object changed and signed by the account."""
    (first, *rest) = blocks_of(body)
    signed = commit(decode(first)["data"], SIGNER, **({"did": body["repo"], "rev": body["rev"]} | changes))
    return body | {"commit": Link(cid_of(signed)), "blocks": car(cid_of(signed), [signed, *rest])}


def with_blocks(body: Body, *more: bytes | tuple[bytes, bytes]) -> Body:
    return body | {"blocks": car(body["commit"], [*blocks_of(body), *more])}


def op_changed(body: Body, index: int, **changes: Any) -> Body:
    return body | {"ops": [op | changes if i == index else op for i, op in enumerate(body["ops"])]}


OTHER, NO_NODE = Link(cid_of(b"other")), b"\xa0"


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
    "somebody else's signature": (lambda body: sealed_by(body, Signer(number=8)), "bad_signature"),
    "no operations that tell": (lambda body: body | {"tooBig": True}, "too_big"),
    "too many operations": (lambda body: body | {"ops": body["ops"] * 100}, "oversized"),
    "too many bytes": (lambda body: body | {"blocks": bytes(2_000_001)}, "oversized"),
}


def sealed_by(body: Body, signer: Signer) -> Body:
    (first, *rest) = blocks_of(body)
    signed = commit(decode(first)["data"], signer, did=body["repo"], rev=body["rev"])
    return body | {"commit": Link(cid_of(signed)), "blocks": car(cid_of(signed), [signed, *rest])}


@pytest.mark.parametrize("name", WRONG)
def test_a_commit_that_is_wrong_in_one_way_is_refused_for_it(name: str) -> None:
    change, reason = WRONG[name]
    body = change(honest())
    result = told(body)
    assert (result.events, result.dropped, result.received, result.link) == ((), {reason: 1}, 1, None)
    assert (result.desync, result.refused_rev) == ((body["repo"], reason), body["rev"])


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


# one bad record costs none of its siblings


def test_a_record_that_cannot_be_stored_costs_only_itself() -> None:
    body = busy_writer().write({POSTS[30]: encode([1]), POSTS[31]: record("fine"), POSTS[1]: None})
    result = told(body)
    assert (len(result.events), result.dropped, result.proof) == (2, {"bad_record": 1}, Proof.WHOLE)
    assert result.desync is None


def test_a_record_whose_block_is_missing_costs_only_itself_and_is_fetched() -> None:
    body = busy_writer().write({POSTS[30]: record("gone"), POSTS[31]: record("fine")})
    rest = [block for block in blocks_of(body) if block != record("gone")]
    result = told(body | {"blocks": car(body["commit"], rest)})
    assert (len(result.events), result.dropped) == (1, {"missing_block": 1})
    assert (result.proof, result.desync) == (Proof.WHOLE, (DID, "missing_block"))


def test_a_path_that_is_no_collection_costs_only_itself() -> None:
    result = told(busy_writer().write({"no-collection/rkey": record("odd"), POSTS[31]: record("fine")}))
    assert (len(result.events), result.dropped, result.proof) == (1, {"bad_path": 1}, Proof.WHOLE)


# old servers, and leniency


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


# keys


def test_an_account_is_asked_for_once_and_again_when_its_signature_fails() -> None:
    reader, writer, newer = FrameReader(Mode.STRICT, EVERYTHING), busy_writer(), Signer(number=9)
    first = frame("#commit", writer.write({}))
    assert reader.read(first) == Want(DID, None)
    assert isinstance(reader.read(first, KeyAnswer(DID, SIGNER.public)), FrameResult)
    assert isinstance(reader.read(frame("#commit", writer.write({}))), FrameResult)
    writer.signer = newer
    rotated = frame("#commit", writer.write({}))
    assert reader.read(rotated) == Want(DID, SIGNER.public)
    found = reader.read(rotated, KeyAnswer(DID, newer.public, is_newest=True))
    assert isinstance(found, FrameResult)
    assert found.proof is Proof.WHOLE


def test_an_identity_event_makes_it_ask_again() -> None:
    reader, writer = FrameReader(Mode.STRICT, EVERYTHING), busy_writer()
    reader.read(frame("#commit", writer.write({})), KeyAnswer(DID, SIGNER.public))
    reader.read(frame("#identity", {"did": DID}))
    assert reader.read(frame("#commit", writer.write({}))) == Want(DID, None)


def test_few_keys_are_kept_and_the_longest_unused_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingester.frame_reader.KEYS_KEPT", 2)
    reader = FrameReader(Mode.STRICT, EVERYTHING)
    writers = [Writer(did=DID[:-1] + letter, signer=SIGNER) for letter in "abc"]
    for writer in writers[:2]:
        reader.read(frame("#commit", writer.write({})), KeyAnswer(writer.did, SIGNER.public))
    reader.read(frame("#commit", writers[0].write({})))
    reader.read(frame("#commit", writers[2].write({})), KeyAnswer(writers[2].did, SIGNER.public))
    wants = [isinstance(reader.read(frame("#commit", writer.write({}))), Want) for writer in writers]
    assert wants == [False, True, False]
