"""The repository's own files: which there are, and what stands in them."""

import fnmatch
import os
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[1]


def kept_files() -> Iterator[Path]:
    """Every file but what .gitignore leaves out; its patterns are plain names, with * at most."""
    ignored = [".git", *(line.strip("/") for line in read(".gitignore").split())]

    def is_kept(name: str) -> bool:
        return not any(fnmatch.fnmatch(name, pattern) for pattern in ignored)

    for folder, folders, files in os.walk(HOME):
        folders[:] = filter(is_kept, folders)
        yield from (Path(folder, name).relative_to(HOME) for name in files if is_kept(name))


@cache
def read(path: str | Path) -> str:
    return (HOME / path).read_text("utf-8")


def texts() -> Iterator[tuple[Path, str]]:
    for path in kept_files():
        try:
            yield path, read(path)
        except UnicodeDecodeError:
            continue


def pages() -> list[Path]:
    return [path for path in kept_files() if path.suffix == ".md" and (len(path.parts) == 1 or path.parts[0] == "docs")]


def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))
