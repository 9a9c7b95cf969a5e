"""Pages that are made from the code say what the code says."""

import dataclasses
import re
from pathlib import Path

import pytest
import typer
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from sluice.cli import app
from sluice.docs import DOCS, PAGES, SETTINGS, commands


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run: make docs"


WRITTEN = [path for path in sorted((DOCS.parent).glob("*.md")) + sorted(DOCS.rglob("*.md")) if path.name not in PAGES]
# what is named like a metric or a setting and is neither: functions, constraints, files, parts of names with a *
OTHER_NAMES = {"ingester_1", "indexer_1", "backfiller_1"}


def metric_names() -> set[str]:
    samples = (sample.name for family in REGISTRY.collect() for sample in family.samples)
    return {name for sample in samples for name in (sample, sample.removesuffix("_total"))} | {
        f"{metric._name}{suffix}"
        for metric in set(REGISTRY._names_to_collectors.values())
        if isinstance(metric, MetricWrapperBase)
        for suffix in ("", "_total", "_bucket", "_sum", "_count")
    }


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_a_page_names_only_metrics_that_there_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:ingester|backfiller|indexer|sluice)_[a-z0-9_]+)(?:\{[^`]*\})?`", text))
    assert named - metric_names() - OTHER_NAMES - {name for name in named if name.startswith("sluice_bsky")} == set()


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_a_page_names_only_settings_that_there_are(path: Path) -> None:
    known = {field.metadata["env"] for kind in SETTINGS.values() for field in dataclasses.fields(kind)}
    named = set(
        re.findall(r"\b((?:INGESTER|BACKFILLER|INDEXER)_[A-Z_]*[A-Z])\b(?!\*)", path.read_text(encoding="utf-8"))
    )
    assert named - known - {f"{name}_FILE" for name in known} == set()


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_a_page_names_only_commands_and_options_that_there_are(path: Path) -> None:
    known = dict(commands("sluice", typer.main.get_command(app)))
    text = path.read_text(encoding="utf-8")
    written = r"^(?:\S*/)?sluice ((?:[a-z]+ ?)[^`#\n]*)|`sluice ([^`]+)`|\bexec (?:-\S+ )*\S+ sluice ([^`#|\n]*)"
    for words in re.findall(written, text, re.MULTILINE):
        name, *rest = "".join(words).split()
        inner = known.get(f"sluice {name} {rest[0]}") if rest else None
        command = inner or known.get(f"sluice {name}")
        assert command or name.startswith("-"), f"{path.name}: sluice {name}"
        options = {option for parameter in command.params for option in parameter.opts} if command else {name}
        assert {word for word in rest if word.startswith("--")} <= options | {"--help"}, f"{path.name}: sluice {name}"


def test_every_page_is_reached_from_the_readme_or_the_operators_page() -> None:
    linked = {
        (page.parent / to).resolve()
        for page in (DOCS.parent / "README.md", *DOCS.glob("*.md"))
        for to in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    }
    assert [path.name for path in DOCS.glob("*.md") if path.resolve() not in linked] == []


@pytest.mark.parametrize("daemon", SETTINGS)
def test_no_setting_is_dead(daemon: str) -> None:
    """Each is read somewhere beside where it is declared."""
    code = "".join(
        p.read_text(encoding="utf-8") for p in (DOCS.parent / daemon).glob("*.py") if p.name != "settings.py"
    )
    fields = [field.name for field in dataclasses.fields(SETTINGS[daemon])]
    assert [name for name in fields if not re.search(rf"settings\.{name}\b", code)] == []
