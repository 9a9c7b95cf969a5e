"""The repository as a house: what stands in the root, what the pages promise, what production is made of."""

import ast
import dataclasses
import fnmatch
import os
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOME = Path(__file__).parents[2]
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
PORTS = {"ingester": 4100, "backfiller": 9090, "indexer": 9090}
DECISION_PARTS = ["Context", "Decision", "Consequences", "What would change our mind"]


def kept_files() -> Iterator[Path]:
    """Every file but what .gitignore leaves out; its patterns are plain names, with * at most."""
    ignored = [".git", *(line.strip("/") for line in read(".gitignore").split())]

    def is_kept(name: str) -> bool:
        return not any(fnmatch.fnmatch(name, pattern) for pattern in ignored)

    for folder, folders, files in os.walk(HOME):
        folders[:] = filter(is_kept, folders)
        yield from (Path(folder, name).relative_to(HOME) for name in files if is_kept(name))


@cache
def read(path: str | Path) -> str:
    return (HOME / path).read_text("utf-8")


def texts() -> Iterator[tuple[Path, str]]:
    for path in kept_files():
        try:
            yield path, read(path)
        except UnicodeDecodeError:
            continue


def pages() -> list[Path]:
    return [path for path in kept_files() if path.suffix == ".md" and (len(path.parts) == 1 or path.parts[0] == "docs")]


def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


@cache
def production() -> dict[str, Any]:
    return dict(yaml.safe_load(read("docker-compose.prod.yml")))


def services() -> dict[str, dict[str, Any]]:
    """The containers of production, by name."""
    return dict(production()["services"])


def daemons() -> dict[str, tuple[str, dict[str, Any]]]:
    """Container -> (which daemon it runs, the container)."""
    return {name: (kind, it) for name, it in services().items() if (kind := (it.get("command") or [""])[0]) in PORTS}


# the root and the texts


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


# the pages


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
    assert set(re.findall(r"\btest_\w+(?!\w*\.py)", read("docs/invariants.md"))) <= defined


def test_every_make_command_of_the_pages_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
    named = {name for page in pages() for name in re.findall(r"(?:^|`)make ([a-z-]+)", read(page), re.MULTILINE)}
    assert {"demo", "test"} <= named
    assert named <= targets


# the package


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


# production


def scraped() -> dict[str, set[str]]:
    """Service -> the host:port that prometheus.yml scrapes for it."""
    jobs = yaml.safe_load(read("prometheus.yml"))["scrape_configs"]
    found: dict[str, set[str]] = {}
    for it in (config for job in jobs for config in job["static_configs"]):
        found.setdefault(it["labels"]["service"], set()).update(it["targets"])
    return found


def test_prometheus_scrapes_every_daemon_where_it_listens() -> None:
    running: dict[str, set[str]] = {}
    for name, (kind, _) in daemons().items():
        running.setdefault(kind, set()).add(f"{name}:{PORTS[kind]}")
    assert {kind: targets for kind, targets in scraped().items() if kind in PORTS} == running


def test_the_status_page_asks_every_daemon_and_can_do_no_more() -> None:
    page = services()["status"]
    assert page["command"] == ["status", "--serve", "--host", "0.0.0.0"]  # noqa: S104 - of its container
    assert set(page["environment"]["SLUICE_TARGETS"].split(",")) == set().union(*(scraped()[kind] for kind in PORTS))
    assert page["ports"] == ["127.0.0.1:4180:4180"]
    assert page["networks"] == ["metrics"]
    assert not page.keys() & {"secrets", "volumes"}


def test_prometheus_can_reach_what_it_scrapes() -> None:
    hosts = {target.partition(":")[0] for targets in scraped().values() for target in targets} - {"localhost"}
    assert hosts >= {"alertmanager", "redis-exporter", "postgres-exporter", "node-exporter"}
    for host in hosts:
        assert set(services()[host]["networks"]) & set(services()["prometheus"]["networks"]), host


def test_what_is_mounted_from_the_checkout_is_there_and_read_only() -> None:
    mounts = [mount.split(":") for it in services().values() for mount in it.get("volumes", []) if mount[0] == "."]
    assert len(mounts) > 5
    assert [path for path, *_ in mounts if not (HOME / path).exists()] == []
    assert [path for path, *_, mode in mounts if mode != "ro"] == []


def test_every_image_has_a_version() -> None:
    assert [it["image"] for it in services().values() if not re.search(r":v?\d[\w.-]+$", it["image"])] == []


def test_the_small_machine_changes_only_what_there_is() -> None:
    small = yaml.safe_load(read("ops/docker-compose.small.yml"))["services"]
    assert set(small) < set(services())
    running = {name: {**it, **small.get(name, {})} for name, it in services().items() if name != "migrate"}
    assert sum(map(_megabytes, running.values())) < 11_000


def _megabytes(container: dict[str, Any]) -> int:
    limit = str(container["mem_limit"])
    return int(limit[:-1]) * {"m": 1, "g": 1024}[limit[-1]]


def test_redis_has_room_between_its_limit_and_that_of_its_container() -> None:
    small = yaml.safe_load(read("ops/docker-compose.small.yml"))["services"]["redis"]
    for container in (services()["redis"], small):
        command = container["command"]
        maxmemory = command[command.index("--maxmemory") + 1]
        assert _megabytes({"mem_limit": maxmemory.removesuffix("b")}) * 3 <= _megabytes(container) * 2


def test_the_connections_of_the_indexers_fit_into_the_pools() -> None:
    pools = {
        name: int(number) for name, number in re.findall(r"^(\w+) = (\d+)$", read("ops/pgbouncer.ini"), re.MULTILINE)
    }
    indexers = [container for kind, container in daemons().values() if kind == "indexer"]
    assert all(container["environment"]["DATABASE_PGBOUNCER"] == "true" for container in indexers)
    each = import_module("indexer.settings").Settings.pool_size
    assert len(indexers) * each <= pools["default_pool_size"]
    allowed = int(re.findall(r"max_connections=(\d+)", " ".join(services()["postgres"]["command"]))[0])
    assert pools["default_pool_size"] + pools["reserve_pool_size"] < allowed


def test_production_has_every_daemon_and_consumers_named_after_their_containers() -> None:
    assert {kind for kind, _ in daemons().values()} == set(PORTS)
    for name, (kind, container) in daemons().items():
        if kind != "ingester":
            assert container["environment"][f"{kind.upper()}_CONSUMER"] == name


def test_every_variable_of_a_container_is_a_setting_of_its_daemon() -> None:
    for name, (kind, container) in daemons().items():
        settings = [field.metadata for field in dataclasses.fields(import_module(f"{kind}.settings").Settings)]
        known = {it["env"] for it in settings} | {f"{it['env']}_FILE" for it in settings if it["secret"]}
        assert set(container["environment"]) <= known, name


def test_a_daemon_has_longer_to_stop_than_it_takes() -> None:
    for kind, container in daemons().values():
        default = import_module(f"{kind}.settings").Settings.grace_seconds
        assert default < float(container["stop_grace_period"].removesuffix("s"))


@pytest.mark.parametrize("name", services())
def test_containers_are_confined_and_limited(name: str) -> None:
    container = services()[name]
    assert container["read_only"]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit", "logging", "stop_grace_period"} <= set(container)
    assert container["restart"] == ("no" if name == "migrate" else "unless-stopped")
    assert all(port.startswith("127.0.0.1:") for port in container.get("ports", []))
    assert "healthcheck" in container or name in {"migrate", *daemons()}


def test_large_repos_go_to_a_disk_that_the_backfillers_may_write_to() -> None:
    for kind, container in daemons().values():
        if kind == "backfiller":
            folder = container["environment"]["BACKFILLER_SPOOL_FOLDER"]
            assert f"spool:{folder}" in container["volumes"]
            assert re.search(rf"install --directory --owner 10001 .* {folder}$", read("Dockerfile"), re.MULTILINE)


def test_redis_and_postgres_are_reached_from_inside_only() -> None:
    assert production()["networks"]["data"]["internal"] is True
    assert [services()[name]["networks"] for name in ("redis", "postgres", "pgbouncer")] == [["data"]] * 3


def test_redis_never_evicts_and_keeps_a_log() -> None:
    command = " ".join(services()["redis"]["command"])
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command


def test_secrets_are_files_that_the_container_was_given() -> None:
    declared = production()["secrets"]
    assert all(set(secret) == {"file"} for secret in declared.values())
    for container in services().values():
        assert set(container.get("secrets", [])) <= set(declared)
        for variable, value in container.get("environment", {}).items():
            assert variable.endswith("_FILE") or not re.search("PASSWORD|SECRET|TOKEN|_URL", variable)
            if variable.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in container["secrets"]


def test_the_image_runs_as_a_user_without_rights() -> None:
    dockerfile = read("Dockerfile")
    assert re.search(r"^USER (\d{5}):\1$", dockerfile, re.MULTILINE)
    for line in ("STOPSIGNAL SIGTERM", 'ENTRYPOINT ["sluice"]', "HEALTHCHECK ", "--require-hashes"):
        assert line in dockerfile
