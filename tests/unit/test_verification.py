"""Honest commits pass, one bad record costs none of its siblings, and keys are asked for once."""

from collections import Counter

import pytest

from common.dag_cbor import encode
from common.events import RepoEvent
from common.inversion import EMPTY_TREE
from ingester.frame_reader import FrameReader, KeyAnswer, Want
from ingester.framing import FrameResult, Proof
from ingester.verification import Mode
from tests.altered_commits import blocks_of
from tests.conftest import OpenRecording
from tests.signed_commits import Writer, frame
from tests.signed_repos import DID, Signer, car, record
from tests.verifying import EVERYTHING, POSTS, SIGNER, busy_writer, key_of, read, some_commit, told


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


def test_a_key_of_long_ago_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingester.frame_reader.KEPT_SECONDS", -1.0)
    reader, writer = FrameReader(Mode.STRICT, EVERYTHING), busy_writer()
    reader.read(frame("#commit", writer.write({})), KeyAnswer(DID, SIGNER.public))
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
