"""What others' programs say of our files: Prometheus, Alertmanager, docker-compose, its specification, two linters."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.tools import node_tool, tool

HOME = Path(__file__).parents[2]
COMPOSE = ["docker-compose.prod.yml", "ops/docker-compose.small.yml"]
BESIDE_US = Path(sys.executable).parent  # Python packages' programs


def said(*command: str | Path, folder: Path = HOME) -> str:
    """What a command said. Fails if it did not end with 0."""
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def alertmanager_yml(folder: Path) -> Path:
    """As it is, but for addresses from files, which an Alertmanager before 0.26 does not know."""
    text = (HOME / "ops" / "alertmanager.yml").read_text()
    path = folder / "alertmanager.yml"
    path.write_text(text.replace("url_file: /run/secrets/", "url: http://example.invalid/"))
    return path


def test_prometheus_takes_its_configuration_and_every_rule() -> None:
    assert "rules found" in said(tool("promtool"), "check", "config", "prometheus.yml")


def test_alertmanager_takes_its_configuration(tmp_path: Path) -> None:
    assert "SUCCESS" in said(tool("amtool"), "check-config", alertmanager_yml(tmp_path))


@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "alerts"), ("warning", "alerts"), ("info", "boards"), ("none", "deadman")]
)
def test_an_alert_goes_to_whom_its_severity_says(severity: str, receiver: str, tmp_path: Path) -> None:
    path = alertmanager_yml(tmp_path)
    routed = said(tool("amtool"), "config", "routes", "test", f"--config.file={path}", f"severity={severity}")
    assert routed.strip() == receiver


def test_alertmanager_reads_only_secrets_that_its_container_has() -> None:
    services = yaml.safe_load((HOME / COMPOSE[0]).read_text())["services"]
    receivers = yaml.safe_load((HOME / "ops" / "alertmanager.yml").read_text())["receivers"]
    files = {hook["url_file"] for it in receivers for hook in it.get("webhook_configs", [])}
    assert files == {f"/run/secrets/{name}" for name in services["alertmanager"]["secrets"]}


@pytest.mark.parametrize("path", COMPOSE)
def test_a_compose_file_follows_the_specification(path: str) -> None:
    said(BESIDE_US / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


def composed(*paths: str) -> dict[str, Any]:
    """The services, as docker-compose understands these files together."""
    found = yaml.safe_load(said(tool("docker-compose"), *(f"--file={path}" for path in paths), "config"))
    return dict(found["services"])


def test_docker_compose_reads_every_service_with_its_limits() -> None:
    services = composed(COMPOSE[0])
    assert services.keys() == yaml.safe_load((HOME / COMPOSE[0]).read_text())["services"].keys()
    assert [name for name, it in services.items() if not {"mem_limit", "cpus", "cap_drop"} <= it.keys()] == []
    assert services["indexer2"]["environment"] == services["indexer1"]["environment"] | {"INDEXER_CONSUMER": "indexer2"}


def test_a_small_machine_is_enough_for_the_small_override_which_changes_nothing_else() -> None:
    services, small = composed(COMPOSE[0]), composed(*COMPOSE)
    assert sum(gigabytes(it["mem_limit"]) for it in small.values()) <= 12
    assert small.keys() == services.keys()
    for name, service in small.items():
        assert services[name].get("environment", {}).items() <= service.get("environment", {}).items()
        assert service["image"] == services[name]["image"]


def gigabytes(limit: str) -> float:
    return int(limit[:-1]) / {"g": 1, "m": 1024}[limit[-1]]


def test_the_compose_linter_has_no_errors() -> None:
    said(node_tool("dclint"), "-c", "ops/dclint.yml", "--quiet", *COMPOSE)


def test_the_dockerfile_linter_has_nothing_to_say() -> None:
    assert said(BESIDE_US / "hadolint", "Dockerfile") == ""


def test_secrets_are_written_once_and_agree_with_one_another(tmp_path: Path) -> None:
    (tmp_path / "ops").mkdir()
    script = tmp_path / "ops" / "make-secrets"
    script.write_text((HOME / "ops" / "make-secrets").read_text())
    script.chmod(0o755)
    said(script, folder=tmp_path)
    secrets = {path.name: path.read_text().strip() for path in (tmp_path / "secrets").iterdir()}
    assert set(secrets) == set(yaml.safe_load((HOME / COMPOSE[0]).read_text())["secrets"])
    redis, postgres = secrets["redis.conf"].split()[1], secrets["postgres_password"]
    assert len({redis, postgres, secrets["grafana_password"]}) == 3
    assert min(map(len, (redis, postgres))) >= 32
    assert secrets["redis_url"] == f"redis://:{redis}@redis:6379/0"
    assert json.loads(secrets["redis_exporter"]) == {"redis://redis:6379": redis}
    assert secrets["pgbouncer_users"] == f'"bsky" "{postgres}"'
    assert secrets["database_url"] == f"postgresql://bsky:{postgres}@pgbouncer:6432/bsky"
    (tmp_path / "secrets" / "redis_url").unlink()
    said(script, "http://alerts.example/", "http://alive.example/", folder=tmp_path)
    assert {path.name: path.read_text().strip() for path in (tmp_path / "secrets").iterdir()} == secrets


@pytest.mark.parametrize(
    "name", sorted(path.name for path in (HOME / "ops").iterdir() if os.access(path, os.X_OK) and path.is_file())
)
def test_a_script_is_one_that_any_shell_reads(name: str) -> None:
    said("sh", "-n", f"ops/{name}")
