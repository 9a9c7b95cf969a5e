"""The backfiller's variables and defaults are a contract with those who already run its predecessor."""

import pytest

from backfiller.settings import PREFIX, Settings
from common.errors import CannotStart
from common.settings import load

MINIMAL = {"BACKFILLER_CONSUMER": "backfiller1"}


def test_the_defaults_are_the_contract() -> None:
    assert load(Settings, MINIMAL, PREFIX) == Settings(
        consumer="backfiller1",
        redis_url="redis://localhost:6379",
        backfill_stream="repo_backfill",
        high_stream="repo_backfill_high",
        firehose_stream="firehose_backfill",
        dlq_stream="repo_backfill_dlq",
        group="repo_backfill_group",
        concurrency=50,
        host_concurrency=4,
        batch_size=500,
        high_water_mark=500_000,
        memory_share=0.8,
        http_timeout_seconds=60.0,
        host_requests_per_second=10.0,
        max_car_bytes=2_147_483_648,
        memory_bytes=33_554_432,
        spool_bytes=8_589_934_592,
        spool_folder="",
        max_retries=3,
        retry_initial_ms=1000,
        retry_max_ms=30_000,
        recheck_seconds=604_800,
        skip_signature_verification=False,
        collections=("app.bsky.*", "chat.bsky.*"),
        plc_url="https://plc.directory",
        outbound_allow=(),
        metrics_port=9090,
        log_level="INFO",
        grace_seconds=20.0,
        data_is_disposable=False,
    )


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("REDIS_URL", "redis://r:1", "redis_url", "redis://r:1"),
        ("BACKFILLER_BACKFILL_STREAM", "a", "backfill_stream", "a"),
        ("BACKFILLER_HIGH_STREAM", "h", "high_stream", "h"),
        ("BACKFILLER_FIREHOSE_STREAM", "b", "firehose_stream", "b"),
        ("BACKFILLER_DLQ_STREAM", "c", "dlq_stream", "c"),
        ("BACKFILLER_GROUP", "d", "group", "d"),
        ("BACKFILLER_CONCURRENCY", "2", "concurrency", 2),
        ("BACKFILLER_HOST_CONCURRENCY", "3", "host_concurrency", 3),
        ("BACKFILLER_BATCH_SIZE", "100", "batch_size", 100),
        ("BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", "100000", "high_water_mark", 100_000),
        ("BACKFILLER_MEMORY_SHARE", "0.5", "memory_share", 0.5),
        ("BACKFILLER_HTTP_TIMEOUT_SECS", "30", "http_timeout_seconds", 30.0),
        ("BACKFILLER_MAX_CAR_BYTES", "1000", "max_car_bytes", 1000),
        ("BACKFILLER_HOST_REQUESTS_PER_SECOND", "2.5", "host_requests_per_second", 2.5),
        ("BACKFILLER_MEMORY_BYTES", "1000", "memory_bytes", 1000),
        ("BACKFILLER_SPOOL_BYTES", "1000", "spool_bytes", 1000),
        ("BACKFILLER_SPOOL_FOLDER", "/spool", "spool_folder", "/spool"),
        ("BACKFILLER_MAX_RETRIES", "5", "max_retries", 5),
        ("BACKFILLER_RETRY_INITIAL_BACKOFF_MS", "10", "retry_initial_ms", 10),
        ("BACKFILLER_RETRY_MAX_BACKOFF_MS", "20", "retry_max_ms", 20),
        ("BACKFILLER_RECHECK_SECONDS", "60", "recheck_seconds", 60),
        ("BACKFILLER_SKIP_SIGNATURE_VERIFICATION", "true", "skip_signature_verification", True),
        ("BACKFILLER_COLLECTIONS", "app.bsky.feed.post, *", "collections", ("app.bsky.feed.post", "*")),
        ("BACKFILLER_METRICS_PORT", "9999", "metrics_port", 9999),
        ("PLC_URL", "http://plc", "plc_url", "http://plc"),
        ("OUTBOUND_ALLOW", "plc:2582,pds:2583", "outbound_allow", ("plc:2582", "pds:2583")),
        ("LOG_LEVEL", "DEBUG", "log_level", "DEBUG"),
        ("GRACE_SECONDS", "5", "grace_seconds", 5.0),
        ("DATA_IS_DISPOSABLE", "true", "data_is_disposable", True),
    ],
)
def test_every_variable_sets_its_field(name: str, text: str, field: str, value: object) -> None:
    assert getattr(load(Settings, {**MINIMAL, name: text}, PREFIX), field) == value


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({}, "BACKFILLER_CONSUMER must be set"),
        ({**MINIMAL, "BACKFILLER_CONCURENCY": "5"}, "BACKFILLER_CONCURENCY is unknown"),
        ({**MINIMAL, "BACKFILLER_CONCURRENCY": "0"}, "BACKFILLER_CONCURRENCY: '0'"),
        ({**MINIMAL, "BACKFILLER_SKIP_SIGNATURE_VERIFICATION": "maybe"}, "'maybe' is not true or false"),
    ],
)
def test_a_setting_that_cannot_be_meant_stops_the_start(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(CannotStart, match=complaint):
        load(Settings, environ, PREFIX)


def test_the_password_in_the_redis_url_is_not_shown() -> None:
    settings = load(Settings, {**MINIMAL, "REDIS_URL": "redis://:hunter2@redis:6379"}, PREFIX)
    assert "hunter2" not in repr(settings)
