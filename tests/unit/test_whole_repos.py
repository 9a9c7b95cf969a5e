"""A CAR becomes one complete snapshot or nothing, in memory as in a file."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from mmap import ACCESS_READ, mmap
from tempfile import TemporaryFile
from typing import Any

import pytest

from backfiller.unpack import Snapshot, unpack
from common.car import read_car, read_header, sections
from common.collection_filter import CollectionFilter
from common.dag_cbor import cid_of
from common.errors import BadInput, TryLater
from common.spooled_car import SpooledBlocks
from tests.signed_repos import DID, car, commit, record, tree
from tests.unpacking import ALL, BSKY, REAL, RECORDS, SIGNER, SMALL, events
from tests.vector_files import key_of, real_car


@contextmanager
def in_memory(data: bytes) -> Iterator[bytes]:
    yield data


@contextmanager
def in_a_file(data: bytes) -> Iterator[mmap]:
    with TemporaryFile() as file:
        file.write(data)
        file.flush()
        with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            yield mapped


Form = Callable[[bytes], AbstractContextManager[bytes | mmap]]
forms = pytest.mark.parametrize("form", [in_memory, in_a_file])


@pytest.mark.parametrize("did", REAL)
@pytest.mark.parametrize("collections", [BSKY, ALL])
def test_a_repo_in_a_file_is_the_same_snapshot(did: str, collections: CollectionFilter) -> None:
    in_one = unpack(real_car(did), did, key_of(did), collections)
    with in_a_file(real_car(did)) as mapped:
        other = unpack(mapped, did, key_of(did), collections)
        assert events(other) == events(in_one)
        assert events(other) == events(in_one)  # drawn again
    assert (other.records, other.filtered, other.unreadable) == (in_one.records, in_one.filtered, in_one.unreadable)


def outcome(data: bytes, did: str, form: Form) -> str | Snapshot:
    try:
        with form(data) as car:
            return unpack(car, did, key_of(did), BSKY)
    except (BadInput, TryLater) as error:
        return type(error).__name__


@forms
def test_a_download_that_was_cut_anywhere_is_tried_again(form: Form) -> None:
    data = real_car(SMALL)
    assert {outcome(data[:end], SMALL, form) for end in range(1, len(data))} == {"TryLater"}
    assert outcome(b"", SMALL, in_memory) == "TryLater"


@forms
@pytest.mark.parametrize("did", REAL[1:])
def test_a_download_that_was_cut_between_two_blocks_is_tried_again(did: str, form: Form) -> None:
    data = real_car(did)
    starts = [start for start, _, _ in sections(data, read_header(data)[1])]
    assert len(starts) > 3
    assert {outcome(data[:end], did, form) for end in starts} == {"TryLater"}


@forms
def test_a_changed_byte_anywhere_is_never_a_snapshot(form: Form) -> None:
    data = real_car(SMALL)
    for at in range(len(data)):
        changed = data[:at] + bytes((data[at] ^ 0x55,)) + data[at + 1 :]
        assert outcome(changed, SMALL, form) in ("BadInput", "TryLater"), at


def test_the_blocks_of_a_file_are_found_by_their_cids_however_often_they_are_there() -> None:
    found = read_car(real_car(SMALL))
    everything = car(found.root, [*found.blocks.values(), record("a stranger"), *reversed(found.blocks.values())])
    with in_a_file(everything) as mapped:
        blocks = SpooledBlocks(mapped)
        stranger = record("a stranger")
        assert dict(blocks) == {**found.blocks, cid_of(stranger): stranger}
        assert len(blocks) == len(found.blocks) + 1
        assert cid_of(record("not there")) not in blocks
        assert blocks.get(cid_of(record("not there"))) is None
        assert all(cid in blocks for cid in found.blocks)


def test_the_order_of_the_blocks_does_not_matter_nor_what_else_is_there() -> None:
    found = read_car(real_car(SMALL))
    shuffled = car(found.root, [record("a stranger"), *reversed(found.blocks.values()), *found.blocks.values()])
    assert events(unpack(shuffled, SMALL, key_of(SMALL), BSKY)) == events(unpack(real_car(SMALL), SMALL, None, BSKY))


def without(name: str) -> bytes:
    top, nodes = tree({path: cid_of(block) for path, block in RECORDS.items()})
    signed = commit(top, SIGNER)
    parts: dict[str, list[bytes]] = {
        "commit": [signed],
        "tree": list(nodes.values()),
        "records": list(RECORDS.values()),
    }
    return car(cid_of(signed), [block for part, blocks in parts.items() if part != name for block in blocks])


@forms
@pytest.mark.parametrize("name", ["commit", "tree", "records"])
def test_a_repo_without_a_part_is_tried_again(name: str, form: Form) -> None:
    with form(without(name)) as car, pytest.raises(TryLater, match="incomplete_repo"):
        unpack(car, DID, SIGNER.public, BSKY)


def test_a_filtered_record_must_be_there_all_the_same() -> None:
    top, nodes = tree({path: cid_of(block) for path, block in RECORDS.items()})
    signed = commit(top, SIGNER)
    kept: list[Any] = [block for path, block in RECORDS.items() if BSKY(path.partition("/")[0])]
    with pytest.raises(TryLater, match="incomplete_repo"):
        unpack(car(cid_of(signed), [signed, *nodes.values(), *kept]), DID, SIGNER.public, BSKY)
