"""Rules and boards: every query parses, reads only what daemons export, adds up only what may be added up.

Whether an alert fires and a panel has data is seen with a real Prometheus: tests/monitoring.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from ops.boards.__main__ import BOARDS, FOLDER, pages
from ops.boards.panels import Panel
from ops.boards.rendering import dashboard
from tests.promql import Selected, names_meant, selected

HOME = Path(__file__).parents[2]
RULES = sorted((HOME / "ops" / "rules").glob("*.yml"))
RUNBOOKS = HOME / "docs" / "runbooks"
DAEMONS = ("ingester", "backfiller", "indexer")
OTHERS = re.compile("up|ALERTS|(process|python|node|redis|pg|prometheus|alertmanager)_.+")  # exported by something else
TARGET_LABELS = {"service", "instance"}
# one thing in Redis, exported by each daemon that looks at it: two of them do not make two
SHARED = re.compile(
    "sluice_stream_.+|sluice_redis_memory_bytes|sluice_dependency_.+|ingester_(?!list).+_length"
    "|backfiller_(repos_waiting|output_stream_length)|indexer_pending_messages"
    "|ingester_(repos_known|repos_desynchronised|gaps_unclosed)"
)
ADDS_UP = {"sum", "avg", "count"}
OF_COUNTERS = {"rate", "increase", "changes", "irate"}
THE_ACCOUNT = "instance:ingester_units_unaccounted:sum"  # compares counters of one process with one another

Rule = dict[str, Any]


def rules() -> Iterator[Rule]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in rules() if "record" in rule}
PANELS = {
    f"{name}: {row.title}: {panel.title}": panel
    for name, board in BOARDS.items()
    for row in board.rows
    for panel in row.panels
}


@cache
def exported() -> dict[str, set[str]]:
    """Name of a sample -> its labels, for everything that our daemons export."""
    for daemon in DAEMONS:
        import_module(f"{daemon}.app")
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
    ours = {it for it in REGISTRY._names_to_collectors.values() if isinstance(it, MetricWrapperBase)}
    return {
        f"{it._name}{ending}": {*it._labelnames, *(["le"] if ending == "_bucket" else [])}
        for it in ours
        for ending in endings[it._type]
    }


def queries() -> dict[str, str]:
    """Every query there is, by where it stands."""
    annotations = {f"{name}: measure": rule["annotations"].get("measure", "up") for name, rule in ALERTS.items()}
    on_boards = {f"{name} {at}": it.expr for name, panel in PANELS.items() for at, it in enumerate(panel.queries)}
    return {name: rule["expr"] for name, rule in {**ALERTS, **RECORDED}.items()} | annotations | on_boards


def read_by(query: str) -> Iterator[Selected]:
    for one in selected(query):
        for name in names_meant(one.name, list(exported())):
            yield Selected(name, one.labels, one.through)


def is_known(name: str) -> bool:
    return name in exported() or name in RECORDED or OTHERS.fullmatch(name) is not None


READ = [(where, one) for where, query in queries().items() for one in read_by(query)]


def test_queries_read_only_what_is_exported() -> None:
    assert len(READ) > 300
    assert [(where, one.name) for where, one in READ if not is_known(one.name)] == []


def test_queries_name_only_labels_that_a_metric_has() -> None:
    ours = [(where, one) for where, one in READ if one.name in exported()]
    odd = [(where, one.name, one.labels - exported()[one.name] - TARGET_LABELS) for where, one in ours]
    assert [it for it in odd if it[2]] == []


def test_queries_add_up_only_what_each_daemon_has_of_its_own() -> None:
    assert [it for it in READ if SHARED.fullmatch(it[1].name) and ADDS_UP & {*it[1].through}] == []


def test_counters_are_read_as_rates_so_that_a_restart_does_not_show() -> None:
    counters = [it for it in READ if re.search("_(total|bucket|count|sum)$", it[1].name) and it[0] != THE_ACCOUNT]
    counters = [it for it in counters if it[1].name != "pg_stat_activity_count"]  # a gauge, for all its name
    assert [it for it in counters if not OF_COUNTERS & {*it[1].through}] == []


def test_every_metric_is_shown_or_watched() -> None:
    shown, there = (
        {re.sub("_(bucket|sum)$", "_count", name) for name in names}
        for names in ({one.name for _, one in READ}, exported())
    )
    assert sorted(there - shown) == []


# alerts


def test_there_are_few_enough_alerts_to_be_taken_seriously() -> None:
    assert 25 <= len(ALERTS) <= 35


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule, severities = ALERTS[name], {"critical", "warning", "info", "none"}
    assert set(rule["labels"]) <= {"severity", "because_of"}
    assert rule["labels"]["severity"] in severities
    assert len(rule["annotations"]["summary"]) > 10
    assert rule["annotations"]["description"].endswith(".")
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"


@pytest.mark.parametrize("name", [name for name, rule in ALERTS.items() if "measure" in rule["annotations"]])
def test_what_an_alert_measures_stands_in_its_expression(name: str) -> None:
    annotations = ALERTS[name]["annotations"]
    assert re.fullmatch(r"> [\d.]+", annotations["limit"])
    compared = re.escape(f"{annotations['measure']} {annotations['limit']}")
    assert re.search(rf"{compared}(?![\d.])", ALERTS[name]["expr"])


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {*ALERTS, "README"}


def test_the_list_of_runbooks_says_how_bad_each_is_and_how_long_it_takes_to_fire() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]\(\w+\.md\) \| (\w+) \| (.+) \|$", (RUNBOOKS / "README.md").read_text(), re.MULTILINE
    )
    told = {name: (severity, takes) for name, severity, takes in rows}
    assert told == {name: (it["labels"]["severity"], it.get("for", "at once")) for name, it in ALERTS.items()}


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_has_its_four_parts_and_queries_that_read_what_there_is(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    parts = ["What it means", "Look here first", "Do", "Afterwards"]
    assert re.findall("^## (.+)$", page, re.MULTILINE) == parts
    for block in re.findall("```promql\n(.+?)```", page, re.DOTALL):
        for query in block.strip().splitlines():
            assert [one.name for one in read_by(query) if not is_known(one.name)] == []


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_greps_for_what_a_daemon_says(name: str) -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for kind in ("common", *DAEMONS) for path in (HOME / kind).glob("*.py")
    )
    said = re.findall(r"\| grep (?:-E )?'([^']+)'", (RUNBOOKS / f"{name}.md").read_text())
    assert [text for words in said for text in words.split("|") if text.strip('"') not in code] == []


# boards


@pytest.mark.parametrize("name", pages())
def test_the_json_of_a_board_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == pages()[name], "run: make boards"


def test_there_is_a_board_for_each_daemon_and_one_for_all() -> None:
    assert set(BOARDS) == {"overview", *DAEMONS}
    assert {path.stem for path in FOLDER.glob("*.json")} == set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_the_panels_of_a_board_lie_side_by_side(name: str) -> None:
    board = json.loads(json.dumps(dashboard(BOARDS[name])))
    for one, other in combinations(board["panels"], 2):
        assert one["id"] != other["id"]
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (one["title"], other["title"])
        assert a["x"] + a["w"] <= 24 and b["x"] + b["w"] <= 24  # noqa: PT018 - one fact


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: Panel) -> None:
    assert panel.title
    assert panel.text.endswith(".")
    assert panel.unit


@pytest.mark.parametrize("name", [name for name in BOARDS if name != "overview"])
def test_the_board_of_a_daemon_looks_at_the_chosen_instances(name: str) -> None:
    """What only that daemon counts is never shown without the choice."""
    board = BOARDS[name]
    own = re.compile(f"{name}_.+")
    for panel in (panel for row in board.rows for panel in row.panels):
        for query in panel.queries:
            for one in selected(query.expr):
                assert not own.fullmatch(one.name) or "instance" in one.labels, panel.title
