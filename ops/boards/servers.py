"""The last row of the overview: Redis and Postgres as their exporters see them."""

from ops.boards.panels import Query, Row, graph

INTERVAL = "[$__rate_interval]"

SERVERS = Row(
    "Redis and Postgres, from within",
    (
        graph(
            "Redis: commands",
            "Of all clients.",
            Query(f"sum(rate(redis_commands_processed_total{INTERVAL}))", "commands"),
            unit="cps",
            width=6,
        ),
        graph(
            "Redis: clients",
            "Connected, and waiting in a blocking read, as consumers of an empty stream do.",
            Query("sum(redis_connected_clients)", "connected"),
            Query("sum(redis_blocked_clients)", "blocked"),
            width=6,
        ),
        graph(
            "Redis: append-only file",
            "Its size; it shrinks when it is rewritten.",
            Query("max(redis_aof_current_size_bytes)", "size"),
            unit="bytes",
            width=6,
        ),
        graph(
            "Redis: lost or refused (expect 0)",
            "Keys evicted, which were work not yet done, and connections refused.",
            Query(f"sum(increase(redis_evicted_keys_total{INTERVAL}))", "evicted"),
            Query(f"sum(increase(redis_rejected_connections_total{INTERVAL}))", "refused"),
            width=6,
        ),
        graph(
            "Postgres: transactions",
            "Committed and rolled back. A batch that is refused and halved is rolled back.",
            Query(f"sum(rate(pg_stat_database_xact_commit{INTERVAL}))", "committed"),
            Query(f"sum(rate(pg_stat_database_xact_rollback{INTERVAL}))", "rolled back"),
            unit="cps",
            width=6,
        ),
        graph(
            "Postgres: connections",
            "By what they do. Idle in transaction for long: somebody holds others up.",
            Query("sum by (state) (pg_stat_activity_count)", "{{state}}"),
            width=6,
        ),
        graph(
            "Postgres: size",
            "Of each database.",
            Query("max by (datname) (pg_database_size_bytes)", "{{datname}}"),
            unit="bytes",
            width=6,
        ),
        graph(
            "Postgres: read from disk",
            "Share of the blocks that were not in its memory: what indexing slows down by when the keys no longer fit.",
            Query(
                f"sum(rate(pg_stat_database_blks_read{INTERVAL})) / (sum(rate(pg_stat_database_blks_hit{INTERVAL}))"
                f" + sum(rate(pg_stat_database_blks_read{INTERVAL})) > 0)",
                "from disk",
            ),
            unit="percentunit",
            width=6,
        ),
    ),
)
