"""The indexer's settings."""

from dataclasses import dataclass

from common.settings import NumberOrNone, Port, env
from common.streams import FIREHOSE_BACKFILL, FIREHOSE_LIVE
from indexer.records import APPVIEWS


@dataclass(frozen=True)
class Settings:
    redis_url: str = env("REDIS_URL", "redis://localhost:6379", "Redis with the streams", secret=True)
    database_url: str = env("DATABASE_URL", "postgres://localhost/bsky", "Postgres with the AppView", secret=True)
    database_schema: str = env("DATABASE_SCHEMA", "bsky", "the AppView's schema; ours is sluice_ and its name")
    appview: str = env(
        "DATABASE_APPVIEW", APPVIEWS[0], f"the AppView that has migrated the schema, or later: {' or '.join(APPVIEWS)}"
    )
    pgbouncer: bool = env("DATABASE_PGBOUNCER", False, "true behind PgBouncer in transaction mode")
    pool_size: int = env("DB_POOL_MAX_SIZE", 20, "most connections to Postgres")
    pool_idle: int = env("DB_POOL_MIN_IDLE", 1, "connections to Postgres that stay open")
    streams: tuple[str, ...] = env(
        "INDEXER_STREAMS", (FIREHOSE_LIVE, FIREHOSE_BACKFILL), "event streams to read, by name"
    )
    group: str = env("INDEXER_GROUP", "firehose_group", "consumer group of every stream")
    consumer: str = env("INDEXER_CONSUMER", "indexer_1", "this process's name in the group; unique")
    concurrency: int = env(
        "INDEXER_CONCURRENCY", 2, "batches of one stream applied side by side, each with repos of its own; 4 at most"
    )
    batch_size: int = env(
        "INDEXER_BATCH_SIZE", 4000, "entries of a batch, which is a transaction; so many for each are read at once"
    )
    live_batches: int = env(
        "INDEXER_LIVE_BATCHES", 8, "live batches for each batch of firehose_backfill, as long as both are waiting"
    )
    mode: str = env("INDEXER_MODE", "all", "stream, label or all")
    resolve_dids: bool = env("ENABLE_DID_RESOLUTION", True, "look handles up; without it actors have none")
    plc_url: str = env("PLC_URL", "https://plc.directory", "the did:plc directory")
    handle_resolver: str = env(
        "INDEXER_HANDLE_RESOLVER", "", "a server whose resolveHandle is asked instead of DNS and the handle's host"
    )
    handle_concurrency: int = env("INDEXER_HANDLE_CONCURRENCY", 20, "handles looked up at the same time")
    claim_idle_seconds: float = env(
        "INDEXER_CLAIM_IDLE_SECONDS", 60.0, "after so long without a sign of life, a consumer's entries are taken over"
    )
    outbound_allow: tuple[str, ...] = env(
        "OUTBOUND_ALLOW", (), "host:port of private servers that may be asked, also without TLS"
    )
    metrics_port: Port = env("METRICS_PORT", 9090, "port of /metrics, /healthz and /readyz")
    log_level: str = env("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")
    grace_seconds: NumberOrNone = env("GRACE_SECONDS", 20.0, "seconds to finish the batch in hand when told to stop")
    data_is_disposable: bool = env(
        "DATA_IS_DISPOSABLE", False, "true allows a Redis without AOF and a Postgres without fsync"
    )
