"""The repository as a house: what stands in the root, what the pages promise, what the package is."""

import ast
import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house import HOME, kept_files, pages, project, read, texts

PACKAGES = {"common", "ingester", "backfiller", "indexer", "sluice"}
IN_THE_ROOT = {
    *PACKAGES,
    *("tests", "bench", "ops", "docs", ".ci"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"),
    *("Makefile", "pyproject.toml", "requirements.lock", ".pre-commit-config.yaml", ".gitignore"),
    *("Dockerfile", ".dockerignore", "docker-compose.prod.yml", "prometheus.yml"),
}
REGISTRIES = re.compile(r"(pypi|pythonhosted|golang|crates|npmjs|yarnpkg)\.(org|com|io)\b|index-url[ =]+http")
MACHINE_PATHS = re.compile(r"(?<![\w.~:/-])/(?:root|home|Users|work)/\w")
NAMED_FOR_NOTHING = {"utils", "util", "helpers", "types", "models", "misc", "manager"}
DECISION_PARTS = ["Context", "Decision", "Consequences", "What would change our mind"]


def test_the_root_holds_nothing_beyond_the_list() -> None:
    assert {path.parts[0] for path in kept_files()} <= IN_THE_ROOT


def test_no_text_names_a_package_registry() -> None:
    assert [path for path, text in texts() if REGISTRIES.search(text)] == []


def test_no_text_names_a_path_of_somebodys_machine() -> None:
    assert [path for path, text in texts() if MACHINE_PATHS.search(text)] == []


def test_no_file_is_named_for_nothing() -> None:
    assert [path for path in kept_files() if path.suffix == ".py" and path.stem in NAMED_FOR_NOTHING] == []


def test_every_module_says_what_it_is_for() -> None:
    modules = [path for path in kept_files() if path.suffix == ".py"]
    assert [path for path in modules if not ast.get_docstring(ast.parse(read(path)))] == []


def test_every_link_of_a_page_leads_somewhere() -> None:
    links = [(page, link) for page in pages() for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(page))]
    assert len(links) > 10
    assert [(page, to) for page, to in links if "://" not in to and not (HOME / page.parent / to).exists()] == []


def test_every_file_that_a_page_names_is_there() -> None:
    there = {str(part) for path in kept_files() for part in (path, path.name, *path.parents)}
    named = {(page, name) for page in pages() for name in re.findall(r"`([\w./-]+(?:\.py|/))`", read(page))}
    assert len(named) > 20
    assert sorted(f"{page}: {name}" for page, name in named if name.rstrip("/") not in there) == []


def test_decisions_are_numbered_without_gaps_and_have_their_four_parts() -> None:
    decisions = sorted((HOME / "docs/decisions").iterdir())
    assert [page.name[:5] for page in decisions] == [f"{number:04d}-" for number in range(1, len(decisions) + 1)]
    for page in decisions:
        text = read(page.relative_to(HOME))
        assert text.startswith(f"# {page.name[:4]}: ")
        assert re.findall("^## (.+)$", text, re.MULTILINE) == DECISION_PARTS, page.name


def test_every_test_that_an_invariant_names_exists() -> None:
    defined = {
        name for path, text in texts() if path.parts[0] == "tests" for name in re.findall(r"def (test_\w+)", text)
    }
    named = set(re.findall(r"\btest_\w+(?!\w*\.py)", read("docs/invariants.md")))
    assert len(named) > 20
    assert named <= defined


def test_every_make_command_of_the_pages_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
    named = {name for page in pages() for name in re.findall(r"(?:^|`)make ([a-z-]+)", read(page), re.MULTILINE)}
    assert {"demo", "test"} <= named
    assert named <= targets


def test_the_package_is_the_five_folders() -> None:
    assert set(project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    assert [name for name in PACKAGES if not (HOME / name / "__init__.py").exists()] == []


def test_the_lock_pins_by_hash_what_the_project_asks_for() -> None:
    pins = re.findall(
        r"^([a-z0-9-]+)==(\S+).*\\\n    --hash=sha256:[0-9a-f]{64}", read("requirements.lock"), re.MULTILINE
    )
    locked = {canonicalize_name(name): version for name, version in pins}
    assert len(locked) == len(re.findall("^[a-z]", read("requirements.lock"), re.MULTILINE))
    needs = project()["build-system"]["requires"] + project()["project"]["dependencies"]
    for extra in project()["project"]["optional-dependencies"].values():
        needs += extra
    for need in map(Requirement, needs):
        name = canonicalize_name(need.name)
        assert name in locked and locked[name] in need.specifier, f"make lock: {need}"  # noqa: PT018 - one fault
