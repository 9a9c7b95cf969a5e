"""python -m ops.boards: ops/grafana/dashboards/*.json, written from their descriptions."""

import json
import sys
from pathlib import Path

from ops.boards import backfiller, indexer, ingester, overview
from ops.boards.rendering import dashboard

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"
BOARDS = {module.__name__.rpartition(".")[2]: module.BOARD for module in (overview, ingester, backfiller, indexer)}


def pages() -> dict[str, str]:
    """File name -> what it holds."""
    return {f"{name}.json": json.dumps(dashboard(board), indent=1) + "\n" for name, board in BOARDS.items()}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (FOLDER / name).write_text(page, encoding="utf-8")
        sys.stderr.write(f"ops/grafana/dashboards/{name}\n")


if __name__ == "__main__":
    main()
