"""Runs a server for exactly as long as standard input stays open: it ends with whoever started it, however that ended.

sluice/guarded.py starts this file as a process of its own, so it imports nothing but the standard library.
The only argument is JSON: {"commands": [[program, argument...]...], "user": name or null, "stop_signal": number,
"folder": where they run, "temporary": whether the folder goes with them}. The last command is the server;
those before it prepare it, and each must succeed before the next one starts.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any

GRACE_SECONDS = 60.0


class Guard:
    def __init__(self, user: str | None, stop_signal: int, folder: str) -> None:
        self._stop_signal, self._folder = stop_signal, folder
        self._as_user: dict[str, Any] = {}
        if user is not None:
            self._as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        self._lock = threading.Lock()
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str]) -> int:
        """The exit code of the command, which is not started at all once the guard is to stop."""
        with self._lock:
            if self._stopping:
                return 1
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=self._folder, **self._as_user)
        return self._process.wait()

    def stop_at_end_of_input(self) -> None:
        os.read(sys.stdin.fileno(), 1)
        with self._lock:
            self._stopping = True
            process = self._process
        if process is None:
            return
        process.send_signal(self._stop_signal)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def main() -> int:
    task = json.loads(sys.argv[1])
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: None)  # a handler, for children would inherit an ignored signal
    guard = Guard(task["user"], task["stop_signal"], task["folder"])
    threading.Thread(target=guard.stop_at_end_of_input, daemon=True).start()
    status = 0
    try:
        for command in task["commands"]:
            if status := guard.run(command):
                break
    finally:
        if task["temporary"]:
            shutil.rmtree(task["folder"], ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
