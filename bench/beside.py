"""Sluice and the original indexer (npm @atproto/bsky) on one recording: ours, the original's, ours again.

REALNET=DIR .venv/bin/python -m bench.beside RECORDING --original TOOLS

RECORDING is a folder. TOOLS holds env.sh and services.sh of an original that is installed in DIR with a Postgres of its
own, fsync on; it runs at its own full speed.
"""

import asyncio
import json
import subprocess
import time
from pathlib import Path

from bench.index import main as index
from bench.index import parser
from bench.machine import load

_LETTERS = str.maketrans("0123456789", "abcdefghij")  # all that a schema's name may hold there


def original(recording: Path, tools: Path) -> float:
    """Frames a second."""
    schema = "beside_" + time.strftime("%H%M%S").translate(_LETTERS)
    command = (
        f'. "{tools}/env.sh"; "{tools}/services.sh" start >&2; '
        f'node "$REALNET/app/orig-index.mjs" --rec "{recording}" --schema {schema}'
    )
    print(f"the original; {load()}", flush=True)
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, check=True)
    told = json.loads(done.stdout.decode().strip().splitlines()[-1])
    cpu = [told[name] / told["frames"] * 1e6 for name in ("nodeCpuSeconds", "postgresCpuSeconds")]
    speed: float = told["frames"] / told["seconds"]
    print(
        f"{speed:,.0f} frames/s ({told['seconds']} s); CPU per frame: node {cpu[0]:,.0f} us, postgres {cpu[1]:,.0f} us;"
        f" peak {told['peakRssMiB']} MiB; {load()}"
    )
    return speed


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--original", type=Path, required=True)
    given = arguments.parse_args()
    before = asyncio.run(index(given))
    theirs = original(given.recording.absolute(), given.original.absolute())
    after = asyncio.run(index(given))
    print(f"Sluice does {before / theirs:.1f} and {after / theirs:.1f} times what the original does")
