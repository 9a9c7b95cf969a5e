"""Stands in for `docker compose` where there is no container engine: runs what a container would, beside real servers.

python tests/monitoring/engine.py COMMAND...   with ENGINE, a JSON object: programs, environ, folders, services, log
"""

import json
import os
import subprocess
import sys
from pathlib import Path

OPTIONS = {"-T", "--rm", "--no-deps"}


def main(arguments: list[str]) -> int:
    engine = json.loads(os.environ["ENGINE"])
    with Path(engine["log"]).open("a") as log:
        log.write(" ".join(arguments) + "\n")
    verb, *rest = [argument for argument in arguments if argument not in OPTIONS]
    if verb in ("stop", "start"):
        return 0
    if verb == "config":
        sys.stdout.write("".join(f"{service}\n" for service in engine["services"]))
        return 0
    entrypoint = [rest[1]] if rest[0] == "--entrypoint" else []
    _service, *command = rest[2:] if entrypoint else rest
    if verb == "run" and not entrypoint:
        entrypoint = [sys.executable, "-c", "from sluice.cli import main; main()"]
    command = [located(word, engine) for word in (*entrypoint, *command)]
    return subprocess.run(command, env=os.environ | engine["environ"], check=False).returncode


def located(word: str, engine: dict[str, dict[str, str]]) -> str:
    """A program of the container, or a path or port in it, as it is called here."""
    if word in engine["programs"]:
        return engine["programs"][word]
    for inside, here in engine["folders"].items():
        word = word.replace(inside, here)
    return word


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
