"""Files of the public vectors, of which the large ones are compressed, and the repos among all our data."""

import json
from pathlib import Path

import zstandard

from common.car import Car, read_car
from common.keys import PublicKey, key_in_document

DATA = Path(__file__).parent / "data"
VECTORS = DATA / "vectors"
REPOS = ("empty.car", "tiny.car", "snarfed2.car", "greenground.car", "little.car.zst")
MODEL = VECTORS / "atproto-interop" / "data-model"
DATA_MODEL = json.loads((MODEL / "data-model-fixtures.json").read_text())
DOCUMENTS = json.loads((DATA / "cars" / "dids.json").read_text())
CARS = sorted((DATA / "cars").glob("*.car")) + [VECTORS / "repos" / name for name in REPOS]


def content_of(path: Path) -> bytes:
    if path.suffix != ".zst":
        return path.read_bytes()
    with zstandard.open(path) as file:
        return bytes(file.read())


def car_of(path: Path) -> Car:
    return read_car(content_of(path))


def real_car(did: str) -> bytes:
    """The repo of somebody whose document is at hand."""
    return (DATA / "cars" / f"{did.replace(':', '_')}.car").read_bytes()


def key_of(did: str) -> PublicKey:
    return key_in_document(DOCUMENTS[did], did)
