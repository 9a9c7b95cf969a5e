"""The ingester's settings."""

from dataclasses import dataclass

from common.settings import CountOrNone, NumberOrNone, Port, Share, env

MODES = ("all", "firehose", "backfill", "labeler")


@dataclass(frozen=True, kw_only=True)
class Settings:
    redis_url: str = env("REDIS_URL", "redis://localhost:6379", "The Redis that holds the streams.", secret=True)
    relay_hosts: tuple[str, ...] = env(
        "INGESTER_RELAY_HOSTS",
        ("bsky.network",),
        "Relays to read the firehose and the list of repos from; ws:// or http:// before a name is plain text. What"
        " several tell is stored once.",
    )
    labeler_hosts: tuple[str, ...] = env(
        "INGESTER_LABELER_HOSTS",
        (),
        "Labelers to read: hosts by the names in their DID documents, or DIDs, which are followed when they move.",
    )
    verify_labels: bool = env(
        "INGESTER_VERIFY_LABELS",
        True,
        "Take a label only from the labeler whose DID document names the host, and only with its signature.",
    )
    verify: str = env(
        "INGESTER_VERIFY",
        "strict",
        "strict: a commit is taken if its account signed it and it follows from the tree before (old servers do not say"
        " what that was: the signature and what was written must do); lenient: that will do for all; off: nothing.",
    )
    workers: CountOrNone = env(
        "INGESTER_WORKERS", 2, "Processes that decode and verify the firehose; 0 does it in the daemon itself."
    )
    modes: tuple[str, ...] = env(
        "INGESTER_MODE", ("all",), "What to run: all, or some of firehose, backfill (the list of repos) and labeler."
    )
    collections: tuple[str, ...] = env(
        "INGESTER_COLLECTIONS",
        ("app.bsky.*", "chat.bsky.*"),
        "Collections whose records go to the streams: NSIDs, or prefixes that end in .*; * is all.",
    )
    high_water_mark: int = env(
        "INGESTER_HIGH_WATER_MARK", 100_000, "Entries in a stream at which writing to it waits until it has drained."
    )
    memory_share: Share = env("INGESTER_MEMORY_SHARE", 0.8, "Share of Redis' maxmemory at which writing waits.")
    batch_size: int = env("INGESTER_BATCH_SIZE", 500, "Entries written at once; twice as many are held in memory.")
    batch_bytes: int = env("INGESTER_BATCH_BYTES", 8_388_608, "Bytes at which a batch is written however few entries.")
    batch_timeout_ms: int = env("INGESTER_BATCH_TIMEOUT_MS", 1000, "Longest that an event waits for its batch to fill.")
    idle_seconds: float = env(
        "INGESTER_IDLE_SECONDS", 60.0, "Silence after which a relay's connection is taken for dead."
    )
    labeler_idle_seconds: float = env(
        "INGESTER_LABELER_IDLE_SECONDS", 600.0, "The same for labelers, which may be quiet for long."
    )
    seq_jump: int = env(
        "INGESTER_SEQ_JUMP",
        1000,
        "How far a connection's first event may be beyond the cursor and be no gap yet: hosts skip numbers.",
    )
    list_hosts_of: tuple[str, ...] = env(
        "INGESTER_LIST_HOSTS_OF",
        (),
        "Relays whose list of hosts (listHosts) is read in the mode backfill; each PDS there is asked for its repos.",
    )
    pds_at_once: int = env("INGESTER_PDS_AT_ONCE", 8, "How many PDSes are asked for their repos at the same time.")
    pds_max_repos: int = env(
        "INGESTER_PDS_MAX_REPOS",
        2_000_000,
        "Rows after which a PDS' list of repos is not read on (a page counts for 100 at least); a gap tells so.",
    )
    compare_gaps: bool = env(
        "INGESTER_COMPARE_GAPS",
        True,
        "After a gap, compare the relay's list of repos with what is known; queue what differs or never was whole.",
    )
    listing_collection: str = env(
        "INGESTER_LISTING_COLLECTION",
        "",
        "List only the repos that have records of this collection (listReposByCollection); empty is all repos.",
    )
    listing_skips_whole: bool = env(
        "INGESTER_LISTING_SKIPS_WHOLE", True, "Queue no repo that is whole already, up to the rev that is listed."
    )
    listing_repeat_hours: NumberOrNone = env(
        "INGESTER_LISTING_REPEAT_HOURS", 0.0, "Hours after a finished list of repos until it is read again; 0 is never."
    )
    plc_url: str = env(
        "PLC_URL", "https://plc.directory", "The directory of did:plc, for keys of accounts and labelers."
    )
    outbound_allow: tuple[str, ...] = env(
        "OUTBOUND_ALLOW", (), "host:port of services in a private network, which may speak plain http."
    )
    metrics_port: Port = env("METRICS_PORT", 4100, "Port of /metrics, /healthz and /readyz.")
    admin_port: Port = env(
        "INGESTER_ADMIN_PORT", 0, "Port of the endpoint that `sluice source` and `sluice filter` ask; 0 is none."
    )
    admin_host: str = env(
        "INGESTER_ADMIN_HOST", "127.0.0.1", "Address that it listens on; off loopback it needs a token."
    )
    admin_token: str = env(
        "INGESTER_ADMIN_TOKEN",
        "",
        "What whoever asks there must know; without one only programs on this machine may ask.",
        secret=True,
    )
    log_level: str = env("LOG_LEVEL", "INFO", "Lowest level that is logged: DEBUG, INFO, WARNING or ERROR.")
    data_is_disposable: bool = env(
        "DATA_IS_DISPOSABLE", False, "Start although Redis has no append-only file and would forget on a restart."
    )
    grace_seconds: NumberOrNone = env("GRACE_SECONDS", 20.0, "How long to finish the work in hand when told to stop.")
