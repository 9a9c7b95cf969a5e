"""What production is made of: containers that fit together, are confined and limited, and can be watched."""

import dataclasses
import re
from functools import cache
from importlib import import_module
from typing import Any

import pytest
import yaml

from tests.house import HOME, read

PORTS = {"ingester": 4100, "backfiller": 9090, "indexer": 9090}


@cache
def production() -> dict[str, Any]:
    return dict(yaml.safe_load(read("docker-compose.prod.yml")))


def services() -> dict[str, dict[str, Any]]:
    """The containers of production, by name."""
    return dict(production()["services"])


def daemons() -> dict[str, tuple[str, dict[str, Any]]]:
    """Container -> (which daemon it runs, the container)."""
    return {name: (kind, it) for name, it in services().items() if (kind := (it.get("command") or [""])[0]) in PORTS}


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
