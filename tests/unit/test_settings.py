"""Settings: what is read, what stops the start, and that the variables of the contract are there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backfiller.settings import Settings as BackfillerSettings
from common.errors import CannotStart
from common.settings import NumberOrNone, Share, env, load
from indexer.settings import Settings as IndexerSettings
from ingester.settings import Settings as IngesterSettings

DAEMONS: dict[str, Any] = {
    "INGESTER_": IngesterSettings,
    "BACKFILLER_": BackfillerSettings,
    "INDEXER_": IndexerSettings,
}
# the variables with which the other implementation's daemons are deployed, and their defaults there
CONTRACT = {
    "INGESTER_": {
        "REDIS_URL": "redis://localhost:6379",
        "INGESTER_RELAY_HOSTS": "bsky.network",
        "INGESTER_LABELER_HOSTS": "",
        "INGESTER_HIGH_WATER_MARK": "100000",
        "INGESTER_BATCH_SIZE": "500",
        "INGESTER_BATCH_TIMEOUT_MS": "1000",
        "INGESTER_MODE": "all",
        "METRICS_PORT": "4100",
    },
    "BACKFILLER_": {
        "BACKFILLER_CONSUMER": "one",
        "REDIS_URL": "redis://localhost:6379",
        "BACKFILLER_BACKFILL_STREAM": "repo_backfill",
        "BACKFILLER_FIREHOSE_STREAM": "firehose_backfill",
        "BACKFILLER_DLQ_STREAM": "repo_backfill_dlq",
        "BACKFILLER_GROUP": "repo_backfill_group",
        "BACKFILLER_CONCURRENCY": "50",
        "BACKFILLER_BATCH_SIZE": "500",
        "BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK": "500000",
        "BACKFILLER_HTTP_TIMEOUT_SECS": "60",
        "BACKFILLER_MAX_RETRIES": "3",
        "BACKFILLER_RETRY_INITIAL_BACKOFF_MS": "1000",
        "BACKFILLER_RETRY_MAX_BACKOFF_MS": "30000",
        "BACKFILLER_SKIP_SIGNATURE_VERIFICATION": "false",
        "BACKFILLER_METRICS_PORT": "9090",
    },
    "INDEXER_": {
        "REDIS_URL": "redis://localhost:6379",
        "DATABASE_URL": "postgres://localhost/bsky",
        "INDEXER_STREAMS": "firehose_live,firehose_backfill",
        "INDEXER_GROUP": "firehose_group",
        "INDEXER_CONSUMER": "indexer_1",
        "INDEXER_MODE": "all",
        "DB_POOL_MAX_SIZE": "20",
        "ENABLE_DID_RESOLUTION": "true",
        "PLC_URL": "https://plc.directory",
        "METRICS_PORT": "9090",
    },
}
# ours are not what theirs are: a batch was one read there, and is a transaction here; a permit was one event, and is a
# whole batch
ACCEPTED = {"INDEXER_": {"INDEXER_CONCURRENCY": "100", "INDEXER_BATCH_SIZE": "500", "DB_POOL_MIN_IDLE": "5"}}


@dataclass(frozen=True)
class Example:
    text: str = env("DEMO_TEXT", "a", "a text")
    count: int = env("DEMO_COUNT", 3, "how many")
    seconds: float = env("DEMO_SECONDS", 1.5, "how long")
    pause: NumberOrNone = env("DEMO_PAUSE", 0.0, "how long between")
    share: Share = env("DEMO_SHARE", 0.8, "how much of it")
    brave: bool = env("DEMO_BRAVE", False, "whether")
    names: tuple[str, ...] = env("DEMO_NAMES", ("x",), "which")
    url: str = env("URL", "redis://host", "where", secret=True)


@dataclass(frozen=True)
class Needy:
    name: str = env("DEMO_NAME", None, "a name that no other has")


def read(**environ: str) -> Example:
    return load(Example, environ, "DEMO_")


def complaint(kind: Any, **environ: str) -> str:
    with pytest.raises(CannotStart) as refused:
        load(kind, environ, "DEMO_")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_without_an_environment_there_are_defaults() -> None:
    assert read() == Example("a", 3, 1.5, 0.0, 0.8, False, ("x",), "redis://host")


def test_every_type_is_read_from_text() -> None:
    read_from = read(
        DEMO_TEXT=" b ",
        DEMO_COUNT="12",
        DEMO_SECONDS="2",
        DEMO_PAUSE="0.5",
        DEMO_SHARE="1",
        DEMO_BRAVE="True",
        DEMO_NAMES=" a, b ,,c",
    )
    assert read_from == Example(" b ", 12, 2.0, 0.5, 1.0, True, ("a", "b", "c"), "redis://host")


def test_no_names_at_all_is_a_choice() -> None:
    assert read(DEMO_NAMES="").names == ()


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("YES", True), ("false", False), ("0", False), ("no", False)]
)
def test_a_choice_is_read_as_people_write_it(text: str, value: bool) -> None:
    assert read(DEMO_BRAVE=text).brave is value


def test_what_may_be_none_may_be_zero() -> None:
    assert read(DEMO_PAUSE="0").pause == 0.0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("DEMO_COUNT", text) for text in ("", "0", "-1", "1.5", "many")),
        *(("DEMO_SECONDS", text) for text in ("", "soon", "1s", "0", "-1", "nan", "inf", "-inf", "1e999")),
        *(("DEMO_SHARE", text) for text in ("0.1", "80", "nan")),
        *(("DEMO_PAUSE", text) for text in ("", "-0.1", "nan", "inf")),
        *(("DEMO_BRAVE", text) for text in ("", "maybe", "2")),
    ],
)
def test_a_value_that_cannot_be_read_stops_the_start(name: str, text: str) -> None:
    assert f"{name}: {text!r} is not" in complaint(Example, **{name: text})


def test_a_variable_with_our_prefix_must_be_known() -> None:
    assert "DEMO_COUTN is unknown" in complaint(Example, DEMO_COUTN="5")
    assert read(COUTN="5", OTHER_COUNT="x", PATH="/bin") == Example()


def test_every_problem_is_named_at_once() -> None:
    said = complaint(Example, DEMO_COUTN="5", DEMO_COUNT="x", DEMO_BRAVE="y", DEMO_TEXT="fine")
    assert said.count(";") == 2
    assert all(name in said for name in ("DEMO_COUTN", "DEMO_COUNT", "DEMO_BRAVE"))


def test_what_has_no_default_must_be_set() -> None:
    assert "DEMO_NAME must be set (a name that no other has)" in complaint(Needy)
    assert load(Needy, {"DEMO_NAME": "n"}, "DEMO_") == Needy("n")


def test_a_secret_does_not_show() -> None:
    assert "hunter2" not in repr(read(URL="redis://:hunter2@host"))


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://:hunter2@host\n")
    assert read(URL_FILE=str(tmp_path / "url")).url == "redis://:hunter2@host"
    assert read(URL_FILE=str(tmp_path / "url"), URL="redis://set").url == "redis://set"


def test_a_secret_file_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    assert "URL_FILE" in complaint(Example, URL_FILE=str(tmp_path / "none"))


def test_only_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("5")
    assert "DEMO_COUNT_FILE is unknown" in complaint(Example, DEMO_COUNT_FILE=str(tmp_path / "count"))


@pytest.mark.parametrize("prefix", DAEMONS)
def test_the_contract_is_the_default(prefix: str) -> None:
    required = {"BACKFILLER_CONSUMER": "one"} if prefix == "BACKFILLER_" else {}
    assert load(DAEMONS[prefix], CONTRACT[prefix], prefix) == load(DAEMONS[prefix], required, prefix)


@pytest.mark.parametrize("prefix", DAEMONS)
def test_a_deployment_of_the_other_implementation_starts(prefix: str) -> None:
    load(DAEMONS[prefix], CONTRACT[prefix] | ACCEPTED.get(prefix, {}) | {"RUST_LOG": "info"}, prefix)


@pytest.mark.parametrize("prefix", DAEMONS)
def test_a_typo_stops_every_daemon(prefix: str) -> None:
    with pytest.raises(CannotStart, match=f"{prefix}BATCHSIZE is unknown"):
        load(DAEMONS[prefix], CONTRACT[prefix] | {f"{prefix}BATCHSIZE": "5"}, prefix)


@pytest.mark.parametrize("prefix", DAEMONS)
def test_whatever_holds_a_password_is_a_secret(prefix: str) -> None:
    urls = {name: f"canary-{name}" for name in CONTRACT[prefix] if name in ("REDIS_URL", "DATABASE_URL")}
    assert "canary" not in repr(load(DAEMONS[prefix], CONTRACT[prefix] | urls, prefix))
