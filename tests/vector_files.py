"""Files of the public vectors, of which the large ones are compressed."""

from pathlib import Path

import zstandard

VECTORS = Path(__file__).parent / "data" / "vectors"


def content_of(path: Path) -> bytes:
    if path.suffix != ".zst":
        return path.read_bytes()
    with zstandard.open(path) as file:
        return bytes(file.read())
