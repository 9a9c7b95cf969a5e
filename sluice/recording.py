"""A recorded network in a file: the frames of its firehose and of its labeler, its repositories and its identities."""

import mmap
import struct
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import libipld
import msgspec
import zstandard

from common.errors import CannotStart

MAX_UNPACKED_BYTES = 8 << 30
TAR_END = bytes(1024)
T = TypeVar("T")


class RecordedRepo(msgspec.Struct, frozen=True):
    """A row of listRepos. `status` says why a repo is not active, in the words of the protocol."""

    did: str
    head: str
    rev: str
    active: bool = True
    status: str | None = None


@dataclass(frozen=True)
class Contents:
    """What a recording holds, counted apart from the daemons: the other side of their accounts."""

    frames: Mapping[str, int]  # by type: #commit, #sync, #identity, #account
    operations: Mapping[str, int]  # by action: create, update, delete
    labels: int


class Frames:
    """The raw messages of one stream in the order of their seq, each read from the file when it is asked for."""

    def __init__(self, data: mmap.mmap | bytes, start: int, end: int) -> None:
        """Raises ValueError if the last message is cut short."""
        self._data = data
        self._bounds = [start]  # where each frame's length stands, and the end
        while start < end:
            start += 4 + (struct.unpack_from(">I", data, start)[0] if start + 4 <= end else end)
            self._bounds.append(start)
        if start != end:
            raise ValueError(f"it is cut inside frame {len(self)}")

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index: int) -> bytes:
        return self._data[self._bounds[index] + 4 : self._bounds[index + 1]]

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))

    def seq(self, index: int) -> int:
        return seq_of(self[index]) or 0

    @property
    def last_seq(self) -> int:
        """0 if there are no frames."""
        return self.seq(len(self) - 1) if len(self) else 0


def seq_of(frame: bytes) -> int | None:
    """None for messages that have none: #info, errors, and what cannot be read."""
    try:
        _, body = libipld.decode_dag_cbor_multi(frame)
    except (ValueError, RecursionError):
        return None
    seq = body.get("seq") if isinstance(body, dict) else None
    return seq if isinstance(seq, int) else None


@dataclass(frozen=True)
class _Unpacked:
    """The files of a recording: each a range of one mapped file."""

    path: Path
    data: mmap.mmap
    ranges: Mapping[str, range]

    def read(self, name: str) -> bytes:
        where = self._range(name)
        return self.data[where.start : where.stop]

    def json(self, name: str, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(self.read(name), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CannotStart(f"{self.path}: {name} is damaged: {error}") from error

    def frames(self, name: str) -> Frames:
        where = self._range(name)
        try:
            return Frames(self.data, where.start, where.stop)
        except ValueError as error:
            raise CannotStart(f"{self.path}: {name} is damaged: {error}") from error

    def _range(self, name: str) -> range:
        if name not in self.ranges:
            raise CannotStart(f"{self.path} is no recording: it has no {name}")
        return self.ranges[name]


@dataclass(frozen=True)
class Recording:
    """frames.bin and labels.bin are (u32 length, message)*; cars/DID.car is a repo, with `_` for `:` in the DID."""

    name: str
    meta: Mapping[str, Any]
    frames: Frames
    labels: Frames  # empty if there was no labeler
    repos: tuple[RecordedRepo, ...]
    dids: Mapping[str, dict[str, Any]]  # the DID documents at the end of the recording
    handles: Mapping[str, str | None]  # None: the handle no longer resolves
    plc: bytes  # the operations of the PLC directory, as JSON lines
    _unpacked: _Unpacked

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, max_bytes: int = MAX_UNPACKED_BYTES) -> Iterator["Recording"]:
        """The recording in a directory or a .tar.zst, usable inside the context. Raises CannotStart.

        It is unpacked into one file without a name, so an archive cannot choose where anything is written,
        and nothing stays behind however the process ends.
        """
        try:
            with tempfile.TemporaryFile() as spool:
                ranges = (_of_folder if path.is_dir() else _of_archive)(path, spool, max_bytes)
                spool.flush()
                data = mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CannotStart(f"cannot read the recording {path}: {error.strerror or error}") from error
        except (ValueError, tarfile.TarError, zstandard.ZstdError) as error:
            raise CannotStart(f"{path} is no recording: {error}") from error
        with closing(data):
            yield cls._of(_Unpacked(path, data, ranges))

    @classmethod
    def _of(cls, files: _Unpacked) -> "Recording":
        return cls(
            name=files.path.name.removesuffix(".tar.zst"),
            meta=files.json("meta.json", dict[str, Any]),
            frames=files.frames("frames.bin"),
            labels=files.frames("labels.bin") if "labels.bin" in files.ranges else Frames(b"", 0, 0),
            repos=files.json("repos.json", tuple[RecordedRepo, ...]),
            dids=files.json("dids.json", dict[str, dict[str, Any]]),
            handles=files.json("handles.json", dict[str, str | None]),
            plc=files.read("plc.jsonl"),
            _unpacked=files,
        )

    @property
    def last_seq(self) -> int:
        return self.frames.last_seq

    @property
    def last_label_seq(self) -> int:
        return self.labels.last_seq

    @property
    def has_cars(self) -> bool:
        return any(name.startswith("cars/") for name in self._unpacked.ranges)

    def car(self, did: str) -> bytes | None:
        """The whole repo as a CAR at the end of the recording; None if it was not served then."""
        name = f"cars/{did.replace(':', '_')}.car"
        return self._unpacked.read(name) if name in self._unpacked.ranges else None

    def count_operations(self) -> Contents:
        """Decodes every frame, 150,000 a second."""
        frames, operations, labels = Counter[str](), Counter[str](), 0
        for header, body in map(libipld.decode_dag_cbor_multi, self.frames):
            frames[header["t"]] += 1
            operations.update(operation["action"] for operation in body.get("ops", ()))
        for _, body in map(libipld.decode_dag_cbor_multi, self.labels):
            labels += len(body["labels"])
        return Contents(frames, operations, labels)


def _of_folder(path: Path, spool: IO[bytes], max_bytes: int) -> dict[str, range]:
    if not (path / "frames.bin").is_file():
        raise ValueError("it has no frames.bin")
    ranges = {}
    for file in (*path.glob("*.bin"), *path.glob("*.json*"), *path.glob("cars/*.car")):
        start = spool.tell()
        with file.open("rb") as source:
            _copy(source, spool, max_bytes)
        ranges[file.relative_to(path).as_posix()] = range(start, spool.tell())
    return ranges


def _of_archive(path: Path, spool: IO[bytes], max_bytes: int) -> dict[str, range]:
    """The names in the archive lose their first folder, which is the recording's own."""
    with path.open("rb") as packed:
        unpacked = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        _copy(unpacked, spool, max_bytes)
    size = spool.tell()
    spool.seek(max(0, size - len(TAR_END)))
    if spool.read() != TAR_END:
        raise ValueError("the archive is cut short")
    spool.seek(0)
    with tarfile.open(fileobj=spool, mode="r:") as archive:
        return {
            member.name.partition("/")[2]: range(member.offset_data, member.offset_data + member.size)
            for member in archive
            if member.isreg() and member.sparse is None
        }


def _copy(source: Any, spool: IO[bytes], max_bytes: int) -> None:
    while chunk := source.read(1 << 20):
        spool.write(chunk)
        if spool.tell() > max_bytes:
            raise ValueError(f"it is larger than {max_bytes} bytes")
