"""Commits of repos: what is read of them, what was signed, and what is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.car import read_car
from common.dag_cbor import Link, cid_of, decode, encode
from common.keys import key_in_document
from common.repo import read_commit, verify_commit
from tests.recorded_frames import commits
from tests.refusals import refusal
from tests.signed_repos import DID, REV, Signer, commit, record
from tests.vector_files import CARS, VECTORS, car_of, key_of

SIGNER = Signer()
RECORD = record("a record")
CID = cid_of(RECORD)
DATA_CID = cid_of(b"\xa0")


@pytest.mark.parametrize("path", CARS, ids=lambda path: path.stem)
def test_the_commits_of_real_repos_are_read(path: Path) -> None:
    found = car_of(path)
    read = read_commit(found.blocks[found.root])
    assert read.data in found.blocks
    assert read.did.startswith("did:plc:")


def test_every_recorded_commit_is_signed_by_the_key_in_the_document() -> None:
    assert len(commits()) == 40
    for body in commits():
        read = read_commit(read_car(body["blocks"]).blocks[body["commit"]])
        assert (read.did, read.rev) == (body["repo"], body["rev"])
        verify_commit(read, key_of(read.did))


def test_a_commit_gives_its_fields_and_the_bytes_that_were_signed() -> None:
    read = read_commit(commit(DATA_CID, SIGNER, prev=Link(CID)))
    fields = {"did": DID, "rev": REV, "data": Link(DATA_CID), "prev": Link(CID), "version": 3}
    assert (read.did, read.rev, read.data, read.prev) == (DID, REV, DATA_CID, CID)
    assert read.unsigned == encode(fields)
    verify_commit(read, SIGNER.public)


def test_unknown_fields_are_part_of_what_is_signed() -> None:
    read = read_commit(commit(DATA_CID, SIGNER, a=CID, zzz={"links": [Link(CID)]}))
    verify_commit(read, SIGNER.public)


@pytest.mark.parametrize("prev", [None, Link(CID)])
def test_the_usual_form_of_a_commit_is_read_as_any_other(prev: Link | None) -> None:
    usual = read_commit(commit(DATA_CID, SIGNER, prev=prev))
    other = read_commit(commit(DATA_CID, SIGNER, prev=prev, did="did:web:" + DID.removeprefix("did:plc:")))
    assert (usual.rev, usual.data, usual.prev) == (other.rev, other.data, other.prev)
    assert usual.unsigned == other.unsigned.replace(b"did:web:", b"did:plc:")
    verify_commit(usual, SIGNER.public)


def test_a_signature_that_looks_like_a_cid_changes_nothing() -> None:
    """Written back by a codec that cannot tell, it would become a link; one signature of a thousand begins like one."""
    lookalike = b"\x01\x71\x12\x20" + bytes(range(60))
    fields = {"did": DID, "rev": REV, "data": Link(DATA_CID), "prev": None, "version": 3}
    read = read_commit(encode(fields | {"sig": lookalike}))
    assert read.sig == lookalike
    assert read.unsigned == encode(fields)


def test_the_signature_of_another_key_is_refused() -> None:
    assert refusal(verify_commit, read_commit(commit(DATA_CID, SIGNER)), Signer(number=8).public) == "bad_signature"


def test_a_commit_changed_after_it_was_signed_is_refused() -> None:
    block = commit(DATA_CID, SIGNER)
    assert REV.encode() in block
    changed = read_commit(block.replace(REV.encode(), REV[:-1].encode() + b"n"))
    assert refusal(verify_commit, changed, SIGNER.public) == "bad_signature"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": 3.0},
        {"version": True},
        {"did": "alice.test"},
        {"did": None},
        {"rev": "1"},
        {"rev": 1},
        {"data": None},
        {"data": DATA_CID},
        {"data": Link(b"\x01\x55" + DATA_CID[2:])},
        {"data": "bafyreigbw4cq7jykvoa3gh4v5r7dwi4o6cz3lnzabqzwifd72webvwqow4"},
        {"prev": "text"},
        {"prev": b"bytes"},
        {"zzz": "csigX\x40"},
        {f"extra{i}": i for i in range(20)},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_commit_with_a_wrong_field_is_refused(changes: dict[str, Any]) -> None:
    assert refusal(read_commit, commit(DATA_CID, SIGNER, **changes)) == "bad_commit"


@pytest.mark.parametrize("missing", ["did", "rev", "data", "prev", "version", "sig"])
def test_a_commit_without_a_field_is_refused(missing: str) -> None:
    fields = {"did": DID, "rev": REV, "data": Link(DATA_CID), "prev": None, "version": 3, "sig": bytes(64)}
    assert refusal(read_commit, encode(fields)) is None
    del fields[missing]
    assert refusal(read_commit, encode(fields)) == "bad_commit"


SIGNATURES = {
    "none": b"",
    "too short": bytes(63),
    "too long": bytes(65),
    "DER": SIGNER.sign_der(b"x"),
    "a text": "x" * 64,
    "null": None,
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_only_64_bytes_are_the_signature_of_a_commit(name: str) -> None:
    fields = {"did": DID, "rev": REV, "data": Link(DATA_CID), "prev": None, "version": 3}
    assert refusal(read_commit, encode(fields | {"sig": SIGNATURES[name]})) == "bad_commit"


@pytest.mark.parametrize(
    "block",
    [b"", b"\xf6", encode([]), commit(DATA_CID, SIGNER) + b"\x00", RECORD],
    ids=["nothing", "null", "a list", "a byte too many", "a record"],
)
def test_what_is_no_commit_is_refused(block: bytes) -> None:
    assert refusal(read_commit, block) == "bad_commit"


@pytest.mark.parametrize(
    "name",
    ["version-2.car", "version-2-slice.car", "version-2-divy.car", "paul_staging.car.zst", "fakermaker.car.zst"],
)
def test_a_commit_of_version_2_is_refused(name: str) -> None:
    found = car_of(VECTORS / "repos" / name)
    assert decode(found.blocks[found.root])["version"] == 2
    assert refusal(read_commit, found.blocks[found.root]) == "bad_commit"


def test_a_real_commit_is_signed_with_the_key_of_an_old_did_document() -> None:
    """Of another DID than the repo, with the same key."""
    found = car_of(VECTORS / "repos" / "greenground.car")
    document = json.loads((VECTORS / "identity" / "greenground.didDoc.json").read_text())
    commit, key = read_commit(found.blocks[found.root]), key_in_document(document, document["id"])
    verify_commit(commit, key)
    assert refusal(verify_commit, commit, Signer().public) == "bad_signature"
