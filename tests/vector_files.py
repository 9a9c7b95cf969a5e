"""Files of the public vectors, of which the large ones are compressed, and the repos among all our data."""

from pathlib import Path

import zstandard

from common.car import Car, read_car

DATA = Path(__file__).parent / "data"
VECTORS = DATA / "vectors"
REPOS = ("empty.car", "tiny.car", "snarfed2.car", "greenground.car", "little.car.zst")
CARS = sorted((DATA / "cars").glob("*.car")) + [VECTORS / "repos" / name for name in REPOS]


def content_of(path: Path) -> bytes:
    if path.suffix != ".zst":
        return path.read_bytes()
    with zstandard.open(path) as file:
        return bytes(file.read())


def car_of(path: Path) -> Car:
    return read_car(content_of(path))
