"""Every alert fires when it must and stays quiet when it must, as promtool judges; and each of these cases can fail."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.cases.every import ALWAYS, CASES
from tests.monitoring.cases.series import Case
from tests.monitoring.tools import tool

RULES = Path(__file__).parents[2] / "ops" / "rules"
# recordings of one file that alerts of another read
ALSO_READS = {"slo": ["ingester"], "indexer": ["pipeline"]}

Rule = dict[str, Any]


def rules_of(name: str) -> list[Rule]:
    return [rule for group in yaml.safe_load((RULES / f"{name}.yml").read_text())["groups"] for rule in group["rules"]]


def alerts_of(name: str) -> list[str]:
    return [rule["alert"] for rule in rules_of(name) if "alert" in rule]


def write_rules(name: str, folder: Path, change: Callable[[Rule], Rule]) -> list[str]:
    """The rules that the cases of one file need, each alert changed. Returns the files' names."""
    wanted = [name, *ALSO_READS.get(name, [])]
    for each in wanted:
        rules = [change(rule) if "alert" in rule else rule for rule in rules_of(each)]
        groups = [{"name": each, "rules": [rule for rule in rules if "record" in rule or each == name]}]
        (folder / f"{each}.yml").write_text(yaml.safe_dump({"groups": groups}))
    return [f"{each}.yml" for each in wanted]


def promtool_test(case: Case, name: str, *, fires: bool) -> dict[str, Any]:
    """ALERTS is looked at instead of alert_rule_test, which would compare every text as well."""
    alert = name.partition(":")[0]
    series, title = (case.fires, f"{name} fires.") if fires else (case.quiet, f"{name} stays quiet.")
    return {
        "name": title,
        "interval": case.step,
        "input_series": [{"series": selector, "values": values} for selector, values in series.items()],
        "promql_expr_test": [
            {
                # the comment comes back in promtool's complaint, which names neither test nor case
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > bool 0 or vector(0) # {title}',
                "eval_time": case.after,
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
        ],
    }


def failing(name: str, folder: Path, *, fires: bool, change: Callable[[Rule], Rule] = lambda rule: rule) -> set[str]:
    """The cases of one file that promtool says do not hold."""
    tests = [promtool_test(case, title, fires=fires) for title, case in CASES[name].items()]
    page = {"rule_files": write_rules(name, folder, change), "evaluation_interval": "1m", "tests": tests}
    (folder / "test.yml").write_text(yaml.safe_dump(page))
    command = [tool("promtool"), "test", "rules", "test.yml"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = ended.stdout + ended.stderr
    found = {test["name"] for test in tests if f"# {test['name']}" in said}
    assert bool(found) == bool(ended.returncode), said
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_alert_has_a_case_and_every_case_an_alert(name: str) -> None:
    assert {title.partition(":")[0] for title in CASES[name]} == set(alerts_of(name)) - ALWAYS


@pytest.mark.parametrize("name", CASES)
def test_alerts_fire_when_they_must(name: str, tmp_path: Path) -> None:
    assert failing(name, tmp_path, fires=True) == set()


@pytest.mark.parametrize("name", CASES)
def test_alerts_stay_quiet_when_they_must(name: str, tmp_path: Path) -> None:
    assert failing(name, tmp_path, fires=False) == set()


@pytest.mark.parametrize("name", CASES)
def test_every_case_notices_an_alert_that_never_fires_or_always_does(name: str, tmp_path: Path) -> None:
    titles = list(CASES[name])
    never = failing(name, tmp_path, fires=True, change=lambda rule: {**rule, "expr": "vector(0) > 1"})
    assert never == {f"{title} fires." for title in titles}
    always = failing(name, tmp_path, fires=False, change=lambda rule: {**rule, "expr": "vector(1)", "for": "0m"})
    assert always == {f"{title} stays quiet." for title in titles}


def test_the_watchdog_always_fires(tmp_path: Path) -> None:
    (watchdog,) = [rule for rule in rules_of("monitoring") if rule.get("alert") in ALWAYS]
    assert watchdog["expr"] == "vector(1)" and "for" not in watchdog  # noqa: PT018 - one fact
