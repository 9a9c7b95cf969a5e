"""The boards are what Grafana's own types say a board is. There is no Grafana here to draw them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ops.boards.__main__ import BOARDS, FOLDER
from tests.monitoring.tools import NODE_MODULES, node_tool

# Plain: an enumeration's values as they stand in JSON. An object literal may have no key that its type lacks
TYPES = """
import type {{ Dashboard, AnnotationQuery, GraphFieldConfig }} from "@grafana/schema";
import type {{ Options as stat }} from "{composable}/stat/panelcfg/x/StatPanelCfg_types.gen";
import type {{ Options as timeseries }} from "{composable}/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type {{ Options as bargauge }} from "{composable}/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type {{ Options as table }} from "{composable}/table/panelcfg/x/TablePanelCfg_types.gen";
import type {{ Options as statetimeline }} from "{composable}/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
type Plain<T> = T extends string ? (string extends T ? T : `${{T}}`) : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? {{ [K in keyof T]: Plain<T[K]> }} : T;
type Expression = {{ expr: string; titleFormat: string; step: string }};
type Board = Plain<Omit<Dashboard, "annotations"> & {{ annotations: {{ list: (AnnotationQuery & Expression)[] }} }}>;
export const board: Board = {board};
"""
COMPOSABLE = "@grafana/schema/dist/esm/raw/composable"


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_has_grafanas_types(name: str, tmp_path: Path) -> None:
    assert complaints(json.loads((FOLDER / f"{name}.json").read_text()), tmp_path) == ""


def test_a_key_that_grafana_does_not_know_is_noticed(tmp_path: Path) -> None:
    board = json.loads((FOLDER / "overview.json").read_text())
    board["panels"][1]["gridPos"]["width"] = 3
    assert """'"width"' does not exist""" in complaints(board, tmp_path)


def test_an_option_that_grafana_does_not_know_is_noticed(tmp_path: Path) -> None:
    board = json.loads((FOLDER / "overview.json").read_text())
    board["panels"][1]["options"]["colourMode"] = "value"
    assert """'"colourMode"' does not exist""" in complaints(board, tmp_path)


def complaints(board: dict[str, Any], folder: Path) -> str:
    """What the compiler says of a board; nothing if it is one."""
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    options = [
        f"export const o{at}: Partial<Plain<{_type(it)}>> = {json.dumps(it['options'])};"
        for at, it in enumerate(panels)
    ]
    custom = [it["fieldConfig"]["defaults"]["custom"] for it in panels if it["type"] == "timeseries"]
    lines = [f"export const c{at}: Plain<GraphFieldConfig> = {json.dumps(it)};" for at, it in enumerate(custom)]
    text = TYPES.format(composable=COMPOSABLE, board=json.dumps(board))
    (folder / "board.ts").write_text("\n".join([text, *options, *lines]))
    (folder / "node_modules").symlink_to(NODE_MODULES)
    command = [node_tool("tsc"), "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "board.ts"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def _type(panel: dict[str, Any]) -> str:
    return str(panel["type"]).replace("-", "")
