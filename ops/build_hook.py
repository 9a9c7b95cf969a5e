"""Puts the commit that a package is made from into it, as common/COMMIT: what `sluice --version` says elsewhere."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):  # type: ignore[type-arg]
    """SLUICE_COMMIT names it where there is no repository, as in the build of an image."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # a checkout is asked itself, each time
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "COMMIT"
        path.write_text((os.environ.get("SLUICE_COMMIT", "")[:12] or self._described()) + "\n", encoding="ascii")
        build_data["force_include"][str(path)] = "common/COMMIT"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()

    def _described(self) -> str:
        try:
            git = ("git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*")
            return subprocess.run(git, cwd=self.root, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
        except (OSError, subprocess.CalledProcessError):
            return "unknown"
