"""Which build this is: its version, and the commit that it was made from."""

import platform
import subprocess
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path

from prometheus_client import Gauge

_HERE = Path(__file__).parent
BAKED_IN = _HERE / "COMMIT"  # written into a package when it is made
UNKNOWN = "unknown"

INFO = Gauge("sluice_build_info", "Which build runs: always 1.", ["version", "commit", "python"])


@cache
def version() -> str:
    return version_of("sluice")


@cache
def commit() -> str:
    """Its first 12 digits; with + behind them in a checkout that has changed since; or `unknown`."""
    if BAKED_IN.is_file():
        return BAKED_IN.read_text(encoding="ascii").strip() or UNKNOWN
    if not (_HERE.parent / ".git").exists():
        return UNKNOWN
    try:
        git = ("git", "-C", str(_HERE.parent), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*")
        found = subprocess.run(git, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603 - our own words
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return found.stdout.strip() or UNKNOWN


def show_build() -> None:
    INFO.labels(version(), commit(), platform.python_version()).set(1)
