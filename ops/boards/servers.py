"""The last rows of the overview: Redis and Postgres as their exporters see them, and the machine below them."""

from ops.boards.panels import Panel, Query, Row, graph

INTERVAL = "[$__rate_interval]"
_DISK = 'max by (instance, mountpoint) (node_filesystem_{}_bytes{{fstype!~"tmpfs|squashfs"}})'


def _cpu(modes: str, legend: str) -> Query:
    part, whole = (f"sum by (instance) (rate(node_cpu_seconds_total{of}{INTERVAL}))" for of in (f"{{{modes}}}", ""))
    return Query(f"{part} / {whole}", legend)


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


HOST = Row(
    "Machine",
    (
        graph(
            "CPU",
            "Share of all cores that is in use, and that waits for a disk (iowait).",
            _cpu('mode!~"idle|iowait"', "in use"),
            _cpu('mode="iowait"', "waits for a disk"),
            unit="percentunit",
            width=6,
        ),
        graph(
            "Memory in use",
            "Of the machine; what the kernel would give back at once is not in use.",
            Query("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "{{instance}}"),
            unit="percentunit",
            width=6,
        ),
        Panel(
            "Disk in use",
            "Redis takes no more writes when its disk is full, and Postgres stops.",
            (Query(f"1 - {_DISK.format('avail')} / {_DISK.format('size')}", "{{instance}} {{mountpoint}}"),),
            "percentunit",
            "bargauge",
            width=6,
            steps=((None, "green"), (0.8, "orange"), (0.9, "red")),
        ),
        graph(
            "Disks busy",
            "Share of the time in which a disk had something to do. Near 1 for long: Postgres waits for it.",
            Query(f"max by (instance, device) (rate(node_disk_io_time_seconds_total{INTERVAL}))", "{{device}}"),
            unit="percentunit",
            width=6,
        ),
    ),
)
