"""Recordings: what they hold, and that nothing damaged or hostile gets in."""

import io
import json
import struct
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard

from common.errors import CannotStart
from sluice.recording import Frames, Recording

BASIC = Path(__file__).parents[1] / "data" / "recordings" / "basic.tar.zst"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The recording `basic`, unpacked."""
    unpacked = zstandard.ZstdDecompressor().stream_reader(BASIC.read_bytes())
    with tarfile.open(fileobj=unpacked, mode="r|") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "basic"


def packed(path: Path, files: Mapping[str, bytes]) -> Path:
    spool = io.BytesIO()
    with tarfile.open(fileobj=spool, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    path.write_bytes(zstandard.compress(spool.getvalue()))
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {f"basic/{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*.*")}


def refusal(path: Path, **options: int) -> str:
    with pytest.raises(CannotStart) as refused, Recording.open(path, **options):
        pass
    message = str(refused.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_folder_and_its_archive_are_the_same_recording(folder: Path) -> None:
    with Recording.open(folder) as one, Recording.open(BASIC) as other:
        assert one.name == other.name == "basic"
        assert list(one.frames) == list(other.frames)
        assert (one.dids, one.handles, one.repos, one.meta, one.plc) == (
            *(other.dids, other.handles, other.repos, other.meta, other.plc),
        )
        assert [one.car(did) for did in one.dids] == [other.car(did) for did in other.dids]


def test_what_it_counts_is_what_was_recorded(recording: Callable[[str], Recording]) -> None:
    full = recording("full")
    contents = full.count_operations()
    assert contents.frames == full.meta["frames"]["types"]
    assert contents.operations == {"create": 445, "update": 12, "delete": 22}
    assert contents.labels == 5


def test_frames_come_in_the_order_of_their_seq(recording: Callable[[str], Recording]) -> None:
    full = recording("full")
    seqs = [full.frames.seq(index) for index in range(len(full.frames))]
    assert seqs == sorted(set(seqs))
    assert (seqs[0], full.last_seq) == (full.meta["frames"]["first"], full.meta["frames"]["last"])
    assert full.last_label_seq == full.meta["labels"]["last"]


def test_every_active_repo_has_a_car_and_no_other(recording: Callable[[str], Recording]) -> None:
    full = recording("full")
    assert full.has_cars
    assert {repo.did for repo in full.repos if full.car(repo.did) is None} == set(full.meta["noCar"])
    assert full.car("did:plc:unknown") is None


def test_no_labeler_is_no_labels(recording: Callable[[str], Recording]) -> None:
    assert (len(recording("basic").labels), recording("basic").last_label_seq) == (0, 0)


@pytest.mark.parametrize("name", ["frames.bin", "repos.json", "dids.json", "handles.json", "meta.json", "plc.jsonl"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"no {name}" in refusal(folder)


@pytest.mark.parametrize("lost_bytes", [1, 200])
def test_a_cut_frame_is_refused(folder: Path, lost_bytes: int) -> None:
    frames = folder / "frames.bin"
    frames.write_bytes(frames.read_bytes()[:-lost_bytes])
    assert "frames.bin is damaged: it is cut inside frame 60" in refusal(folder)


def test_a_cut_length_is_refused() -> None:
    whole = struct.pack(">I", 2) + b"ab"
    assert list(Frames(whole + whole, 0, 12)) == [b"ab", b"ab"]
    with pytest.raises(ValueError, match="inside frame 2"):
        Frames(whole + whole[:3], 0, 9)


def test_damaged_json_is_refused(folder: Path) -> None:
    (folder / "repos.json").write_text(json.dumps([{"did": 1}]))
    assert "repos.json is damaged" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"no archive", zstandard.compress(b"no archive" * 1000)])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.tar.zst"
    path.write_bytes(content)
    assert "is no recording" in refusal(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_cut_archive_is_refused(tmp_path: Path, share: float) -> None:
    whole = BASIC.read_bytes()
    path = tmp_path / "cut.tar.zst"
    path.write_bytes(whole[: int(len(whole) * share)])
    refusal(path)


def test_an_archive_cut_between_two_files_is_refused(tmp_path: Path, folder: Path) -> None:
    files = files_of(folder)
    path = packed(tmp_path / "whole.tar.zst", dict(sorted(files.items(), key=lambda file: "cars" in file[0])))
    whole = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(zstandard.compress(whole[: last.offset]))
    assert "cut short" in refusal(path)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    assert "cannot read" in refusal(tmp_path / "absent")


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, folder: Path) -> None:
    bomb = packed(tmp_path / "bomb.tar.zst", {"bomb/frames.bin": bytes(50_000_000)})
    assert bomb.stat().st_size < 10_000
    assert "larger than" in refusal(bomb, max_bytes=1_000_000)
    assert "larger than" in refusal(folder, max_bytes=10_000)


def test_an_archive_cannot_choose_where_it_is_written(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    hostile = {f"x/../../{outside.name}": b"1", str(outside): b"2", "x/cars/../../../outside": b"3"}
    path = packed(tmp_path / "hostile.tar.zst", {**files_of(folder), **hostile})
    spools = tmp_path / "spools"
    spools.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spools))
    before = set(tmp_path.rglob("*"))
    with Recording.open(path) as opened:
        assert len(opened.frames) == 60
        assert set(tmp_path.rglob("*")) == before
