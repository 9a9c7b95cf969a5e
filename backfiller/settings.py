"""What the backfiller can be told from outside (docs/settings.md is made from this)."""

from dataclasses import dataclass

from common.settings import env
from common.streams import FIREHOSE_BACKFILL, REPO_BACKFILL, REPO_BACKFILL_DLQ

PREFIX = "BACKFILLER_"


@dataclass(frozen=True)
class Settings:
    consumer: str = env("BACKFILLER_CONSUMER", None, "a name that no other backfiller has, the same at every start")
    redis_url: str = env("REDIS_URL", "redis://localhost:6379", "where the streams are", secret=True)
    backfill_stream: str = env("BACKFILLER_BACKFILL_STREAM", REPO_BACKFILL, "the stream of repos to fetch")
    firehose_stream: str = env("BACKFILLER_FIREHOSE_STREAM", FIREHOSE_BACKFILL, "the stream that their records go to")
    dlq_stream: str = env("BACKFILLER_DLQ_STREAM", REPO_BACKFILL_DLQ, "the stream of repos that were given up")
    group: str = env("BACKFILLER_GROUP", "repo_backfill_group", "the consumer group on the stream of repos")
    concurrency: int = env("BACKFILLER_CONCURRENCY", 50, "repos at once")
    host_concurrency: int = env("BACKFILLER_HOST_CONCURRENCY", 4, "repos at once from one PDS")
    batch_size: int = env("BACKFILLER_BATCH_SIZE", 500, "entries that one read takes at most, and one append")
    high_water_mark: int = env(
        "BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK", 500_000, "entries in the output at which it is full"
    )
    memory_share: float = env("BACKFILLER_MEMORY_SHARE", 0.8, "share of Redis' maxmemory at which the output is full")
    http_timeout_seconds: float = env(
        "BACKFILLER_HTTP_TIMEOUT_SECS", 60.0, "seconds for a PDS to begin its answer, and that it may be silent or slow"
    )
    max_car_bytes: int = env("BACKFILLER_MAX_CAR_BYTES", 256 << 20, "the largest repo; twice that is held at once")
    max_retries: int = env("BACKFILLER_MAX_RETRIES", 3, "failed tries after which a repo is given up")
    retry_initial_ms: int = env("BACKFILLER_RETRY_INITIAL_BACKOFF_MS", 1000, "the wait before the second try, at most")
    retry_max_ms: int = env("BACKFILLER_RETRY_MAX_BACKOFF_MS", 30_000, "the wait before any later try, at most")
    skip_signature_verification: bool = env(
        "BACKFILLER_SKIP_SIGNATURE_VERIFICATION", False, "true takes repos that nobody has signed: for tests only"
    )
    collections: tuple[str, ...] = env(
        "BACKFILLER_COLLECTIONS", ("app.bsky.*", "chat.bsky.*"), "the collections that are ours"
    )
    plc_url: str = env("PLC_URL", "https://plc.directory", "the directory of did:plc")
    outbound_allow: tuple[str, ...] = env(
        "OUTBOUND_ALLOW", (), "host:port of services in a private network, where plain http is allowed too"
    )
    metrics_port: int = env("BACKFILLER_METRICS_PORT", 9090, "port of /metrics, /healthz and /readyz")
    log_level: str = env("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")
    grace_seconds: float = env("GRACE_SECONDS", 25.0, "seconds for the repos in hand when told to stop")
    data_is_disposable: bool = env("DATA_IS_DISPOSABLE", False, "true lets Redis run without its append-only file")
