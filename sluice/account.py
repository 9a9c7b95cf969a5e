"""The account at the end of a run: what came in is written, filtered or dropped with a reason, and nothing is left."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from indexer.names import own_schema
from sluice.recording import Contents
from sluice.samples import Samples

# what an indexer leaves out on purpose, by the name of the outcome
_DROPPED_BY_INDEXER = ("invalid_record", "foreign_subject", "not_storable", "future_rev", "unknown_collection")
_RECEIVED, _WRITTEN = "ingester_received_total", "ingester_written_total"
_LEFT_OUT = ("ingester_firehose_filtered_operations_total", "ingester_dropped_total")
_LIVE = ("firehose", "labeler")  # the sources of events; the third one lists repos


@dataclass(frozen=True)
class Account:
    """`faults` names whatever does not add up; empty when all is accounted for."""

    frames: int
    received: int
    written: int
    filtered: int
    dropped: Mapping[str, int]
    outcomes: Mapping[str, int]
    backfill: Mapping[str, int]
    dead_letters: Mapping[str, int]
    rows: Mapping[str, int]
    faults: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "frames": self.frames,
            "events": {
                "received": self.received,
                "written": self.written,
                "filtered": self.filtered,
                "dropped": self.received - self.written - self.filtered,
                "outcomes": dict(self.outcomes),
            },
            "rows": dict(self.rows),
            "dropped": dict(self.dropped),
            "backfill": dict(self.backfill),
            "dead_letters": sum(self.dead_letters.values()),
            "dead_letters_by_reason": dict(self.dead_letters),
            "accounted": not self.faults,
            "faults": list(self.faults),
        }


def account(
    metrics: Samples, rows: Mapping[str, int], dead_letters: Mapping[str, int], recorded: Contents | None
) -> Account:
    """`recorded`: what the live part should have brought; None if there was none."""
    dropped = metrics.by("ingester_dropped_total", "reason")
    frames = metrics.by("ingester_frames_total", "kind")
    received, written = metrics.by(_RECEIVED, "source"), metrics.by(_WRITTEN, "source")
    filtered = metrics["ingester_firehose_filtered_operations_total"]
    outcomes = metrics.by("indexer_outcomes_total", "outcome")
    return Account(
        frames=metrics.by("ingester_frames_total", "source").get("firehose", 0),
        received=sum(received.get(source, 0) for source in _LIVE),
        written=sum(written.get(source, 0) for source in _LIVE),
        filtered=filtered,
        dropped=dropped | {reason: outcomes[reason] for reason in _DROPPED_BY_INDEXER if reason in outcomes},
        outcomes=outcomes,
        backfill={
            "repos_queued": written.get("listing", 0),
            "repos_done": metrics["backfiller_repos_processed_total"],
            "records": metrics["backfiller_records_extracted_total"],
            **metrics.by("backfiller_repo_outcomes_total", "outcome"),
        },
        dead_letters=dead_letters,
        rows=rows,
        faults=tuple(_faults(metrics, frames, recorded)),
    )


def _faults(metrics: Samples, frames: Mapping[str, int], recorded: Contents | None) -> list[str]:
    faults = []
    if unexplained := metrics[_RECEIVED] - metrics[_WRITTEN] - sum(metrics[name] for name in _LEFT_OUT):
        faults.append(f"the ingester received {unexplained} more than it wrote, filtered and dropped")
    for kind, number in (recorded.frames if recorded else {}).items():
        if frames.get(kind, 0) < number:
            faults.append(f"{number} frames of type {kind} were recorded, {frames.get(kind, 0)} came in")
    if recorded and metrics["ingester_labeler_events_total"] < recorded.labels:
        faults.append(f"{recorded.labels} labels were recorded, fewer came in")
    faults += _lost(metrics)
    return faults


def _lost(metrics: Samples) -> list[str]:
    """What went onto the streams and did not come out of them."""
    events = metrics["indexer_repo_level_events_total"] + metrics["indexer_events_processed_total"] + _buried(metrics)
    sent = metrics["ingester_stream_events_total"] + _backfilled(metrics)
    labels, labels_sent = metrics["indexer_labels_processed_total"], metrics.by(_WRITTEN, "source").get("labeler", 0)
    lost = []
    if events < sent:
        lost.append(f"{sent} events went onto the streams, {events} were indexed")
    if labels < labels_sent:
        lost.append(f"{labels_sent} labels went onto the stream, {labels} were indexed")
    return lost


def _backfilled(metrics: Samples) -> int:
    """Events of the snapshots that are whole: their records, readable or not, and a closing event each."""
    names = ("backfiller_records_extracted_total", "backfiller_records_unreadable_total")
    return sum(metrics[name] for name in (*names, "backfiller_repos_processed_total"))


def _buried(metrics: Samples) -> int:
    by_reason = metrics.by("indexer_dead_letters_total", "reason")
    return by_reason.get("bad_entry", 0) + by_reason.get("refused_by_postgres", 0)


async def rows_by_table(connection: asyncpg.Connection, schema: str) -> dict[str, int]:
    """Tables that hold something, and how many rows."""
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1", schema)
    names = [row["tablename"] for row in tables if not row["tablename"].startswith("kysely_")]
    counts = {name: await connection.fetchval(f'SELECT count(*) FROM "{schema}"."{name}"') for name in names}
    return {name: count for name, count in counts.items() if count}


async def dead_letters_by_reason(connection: asyncpg.Connection, schema: str) -> dict[str, int]:
    rows = await connection.fetch(
        f'SELECT reason, count(*) AS letters FROM "{own_schema(schema)}".dead_letter GROUP BY reason ORDER BY reason'
    )
    return {row["reason"]: row["letters"] for row in rows}


async def fingerprints(connection: asyncpg.Connection, schema: str) -> dict[str, str]:
    """A digest of each table's rows, whatever their order; record.rev apart, which a backfill may lift."""
    prints = {}
    for table in await rows_by_table(connection, schema):
        prints[table] = await connection.fetchval(
            f"SELECT md5(string_agg(digest, '' ORDER BY digest)) FROM "
            f'(SELECT md5((to_jsonb(t) - \'rev\')::text) AS digest FROM "{schema}"."{table}" AS t) AS rows'
        )
    return prints
