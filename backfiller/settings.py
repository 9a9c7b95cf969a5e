"""The backfiller's settings."""

from dataclasses import dataclass

from common.settings import NumberOrNone, Port, Share, env
from common.streams import FIREHOSE_BACKFILL, REPO_BACKFILL, REPO_BACKFILL_DLQ, REPO_BACKFILL_HIGH

PREFIX = "BACKFILLER_"


@dataclass(frozen=True, kw_only=True)
class Settings:
    consumer: str = env(
        "BACKFILLER_CONSUMER", None, "A name that no other backfiller has, and the same at every start."
    )
    redis_url: str = env("REDIS_URL", "redis://localhost:6379", "The Redis that holds the streams.", secret=True)
    backfill_stream: str = env("BACKFILLER_BACKFILL_STREAM", REPO_BACKFILL, "The stream of repos to fetch.")
    high_stream: str = env(
        "BACKFILLER_HIGH_STREAM", REPO_BACKFILL_HIGH, "The stream of repos that overtake those: a quarter more at once."
    )
    firehose_stream: str = env("BACKFILLER_FIREHOSE_STREAM", FIREHOSE_BACKFILL, "The stream that their records go to.")
    dlq_stream: str = env("BACKFILLER_DLQ_STREAM", REPO_BACKFILL_DLQ, "The stream of repos that were given up.")
    group: str = env("BACKFILLER_GROUP", "repo_backfill_group", "The consumer group on the stream of repos.")
    concurrency: int = env("BACKFILLER_CONCURRENCY", 50, "Repos downloaded at once; four times as many are in hand.")
    host_concurrency: int = env(
        "BACKFILLER_HOST_CONCURRENCY", 4, "Repos downloaded at once from one PDS; one until it has answered."
    )
    batch_size: int = env("BACKFILLER_BATCH_SIZE", 500, "Entries read or written at once, at most; 500 is the limit.")
    high_water_mark: int = env(
        "BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK",
        500_000,
        "Entries in the output at which writing to it waits until it has drained.",
    )
    memory_share: Share = env("BACKFILLER_MEMORY_SHARE", 0.8, "Share of Redis' maxmemory at which writing waits.")
    http_timeout_seconds: float = env(
        "BACKFILLER_HTTP_TIMEOUT_SECS",
        60.0,
        "Seconds for a PDS to begin its answer; within as many it must then send 20 kB/s, for 15 minutes at most.",
    )
    host_requests_per_second: float = env(
        "BACKFILLER_HOST_REQUESTS_PER_SECOND",
        10.0,
        "Repos a second from one PDS, by all backfillers together; one that tells what it allows is asked as it says.",
    )
    max_car_bytes: int = env("BACKFILLER_MAX_CAR_BYTES", 2_147_483_648, "Bytes of the largest repo.")
    memory_bytes: int = env(
        "BACKFILLER_MEMORY_BYTES",
        33_554_432,
        "Bytes of repos held in memory together; what is larger than an eighth of it, or finds it full, goes to disk.",
    )
    spool_bytes: int = env("BACKFILLER_SPOOL_BYTES", 8_589_934_592, "Bytes of repos held on disk together.")
    spool_folder: str = env("BACKFILLER_SPOOL_FOLDER", "", "Where that is; empty: with the system's temporary files.")
    max_retries: int = env("BACKFILLER_MAX_RETRIES", 3, "Failed tries after which a repo is given up.")
    max_deaths: int = env(
        "BACKFILLER_MAX_DEATHS",
        5,
        "Times that a backfiller may end (crash, be killed) with a repo in hand before that repo is given up.",
    )
    parked_high_water_mark: int = env(
        "BACKFILLER_PARKED_HIGH_WATER_MARK",
        1_000_000,
        "Jobs parked until their next try at which no others are taken; about 0.3 KB of Redis each.",
    )
    retry_initial_ms: int = env(
        "BACKFILLER_RETRY_INITIAL_BACKOFF_MS", 1000, "Longest wait before the second try; it doubles with each."
    )
    retry_max_ms: int = env("BACKFILLER_RETRY_MAX_BACKOFF_MS", 30_000, "Longest wait before any try.")
    recheck_seconds: int = env(
        "BACKFILLER_RECHECK_SECONDS",
        604_800,
        "After so long a repo that was not to be had (deleted, taken down, deactivated) is looked at again.",
    )
    skip_signature_verification: bool = env(
        "BACKFILLER_SKIP_SIGNATURE_VERIFICATION", False, "Take repos whoever signed them: for experiments."
    )
    collections: tuple[str, ...] = env(
        "BACKFILLER_COLLECTIONS",
        ("app.bsky.*", "chat.bsky.*"),
        "Collections whose records go to the output: NSIDs, or prefixes that end in .*; * is all.",
    )
    plc_url: str = env("PLC_URL", "https://plc.directory", "The directory of did:plc.")
    outbound_allow: tuple[str, ...] = env(
        "OUTBOUND_ALLOW", (), "host:port of services in a private network, which may speak plain http."
    )
    metrics_port: Port = env("BACKFILLER_METRICS_PORT", 9090, "Port of /metrics, /healthz and /readyz.")
    log_level: str = env("LOG_LEVEL", "INFO", "Lowest level that is logged: DEBUG, INFO, WARNING or ERROR.")
    data_is_disposable: bool = env(
        "DATA_IS_DISPOSABLE", False, "Start although Redis has no append-only file and would forget on a restart."
    )
    grace_seconds: NumberOrNone = env("GRACE_SECONDS", 20.0, "How long to finish the work in hand when told to stop.")
