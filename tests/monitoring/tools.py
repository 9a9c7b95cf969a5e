"""Where programs are that are no Python packages: in .tools, where `make tools` puts them, or on the PATH."""

import shutil
from pathlib import Path

TOOLS = Path(__file__).parents[2] / ".tools"
NODE_MODULES = TOOLS / "node_modules"


def tool(name: str) -> str:
    """Raises FileNotFoundError, saying what brings it."""
    return _found(name, TOOLS / "usr" / "bin", also_on_path=True)


def node_tool(name: str) -> str:
    """Only ours: another version judges otherwise. Raises FileNotFoundError, saying what brings it."""
    return _found(name, NODE_MODULES / ".bin", also_on_path=False)


def _found(name: str, folder: Path, *, also_on_path: bool) -> str:
    if found := shutil.which(name, path=str(folder)) or (also_on_path and shutil.which(name)):
        return str(found)
    raise FileNotFoundError(f"there is no {name} here: `make tools` brings it, and `make monitoring` calls that first")
