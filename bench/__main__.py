"""python -m bench [RECORDING]: every bench, one after the other, on the recording that ships or on one of your own."""

import subprocess
import sys
from pathlib import Path

SHIPPED = Path(__file__).parent.parent / "tests" / "data" / "recordings" / "load-tiny.tar.zst"


def main() -> None:
    recording = sys.argv[1] if len(sys.argv) > 1 else str(SHIPPED)
    for bench in ("ingest", "verify", "unpack", "index", "statements"):
        print(f"--- {bench}", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{bench}", *_arguments(bench, recording)], check=True)


def _arguments(bench: str, recording: str) -> list[str]:
    """The unpacking is measured on a repo of its own making."""
    return [] if bench == "unpack" else [recording]


if __name__ == "__main__":
    main()
