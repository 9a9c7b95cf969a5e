"""What there is to say about the pipeline at a moment: one sentence, what needs a look, and all of it as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sluice.flow import DAEMONS, Daemon, Flow, Stream
from sluice.history import History

LATE_SECONDS = 120.0
OVER_SECONDS = 60.0  # what rates are averaged over where they lead to a time left
OK, WAITING, BEHIND, TROUBLE = "ok", "waiting", "behind", "trouble"
_WORST = (TROUBLE, BEHIND, WAITING, OK)

# counters of what was left out or went wrong, and the labels that say why
TROUBLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ingester_dropped_total": ("dropped by the ingester", ("source", "reason")),
    "ingester_errors_by_reason_total": ("trouble upstream", ("source", "reason")),
    "ingester_gaps_total": ("gap recorded", ("source", "kind")),
    "backfiller_failures_by_reason_total": ("failed try of a repo", ("reason",)),
    "backfiller_repos_dead_lettered_total": ("repo given up", ()),
    "indexer_dead_letters_total": ("dead letter of the indexer", ("reason",)),
}


def verdict(flow: Flow, history: History) -> tuple[str, tuple[str, ...]]:
    """The worst state, and a sentence for everything that is not as it should be."""
    found = [*_of_daemons(flow), *_of_streams(flow, history), *_of_upstream(flow)]
    state = min((state for state, _ in found), key=_WORST.index, default=OK)
    return state, tuple(text for _, text in sorted(found, key=lambda each: _WORST.index(each[0])))


def sentence(flow: Flow, history: History) -> str:
    """How it goes, for somebody who reads only this."""
    parts = [_live(flow)]
    if flow.has("backfiller"):
        parts.append(_backfill(flow, history))
    return " ".join(parts)


def document(flow: Flow, history: History) -> dict[str, Any]:
    """Everything that the page and `--json` show. Times are Unix times and seconds; null is unknown."""
    state, notes = verdict(flow, history)
    return {
        "at": flow.at,
        "state": state,
        "sentence": sentence(flow, history),
        "notes": notes,
        "rates": dict(history.now),
        "daemons": [_daemon(flow.at, daemon) for daemon in flow.daemons],
        "streams": [_stream(stream, _is_paused(flow, stream.name)) for stream in flow.streams().values()],
        "hosts": _hosts(flow),
        "backfill": _backfill_numbers(flow, history),
        "troubles": [
            {"what": what, "why": " ".join(why), "count": int(count)}
            for name, (what, labels) in TROUBLES.items()
            for why, count in flow.counts(name, *labels).items()
        ],
    }


def _of_daemons(flow: Flow) -> Iterator[tuple[str, str]]:
    for daemon in flow.daemons:
        if not daemon.is_up:
            yield TROUBLE, f"{daemon.address} {daemon.complaint}."
        elif daemon.complaint:
            yield TROUBLE, f"The {daemon.kind} at {daemon.address} is not ready: {daemon.complaint}."
        for having, up in daemon.samples.rows("sluice_dependency_up"):
            if not up:
                yield TROUBLE, f"The {daemon.kind} at {daemon.address} waits for {having['dependency']} to answer."
    for kind in DAEMONS:
        if kind != "backfiller" and not flow.has(kind):
            yield TROUBLE, f"No {kind} answers."


def _of_streams(flow: Flow, history: History) -> Iterator[tuple[str, str]]:
    for stream in flow.streams().values():
        if _is_paused(flow, stream.name):
            yield WAITING, f"Writers to {stream.name} wait for room: {stream.length:,} entries are in it."
    live = flow.streams().get("firehose_live")
    if live and live.oldest_seconds > LATE_SECONDS:
        yield BEHIND, f"Live events have waited for up to {duration(live.oldest_seconds)}."
    elif (history.now.get("behind_seconds") or 0.0) > LATE_SECONDS:
        yield BEHIND, f"Live events arrive {duration(history.now['behind_seconds'] or 0.0)} late."


def _of_upstream(flow: Flow) -> Iterator[tuple[str, str]]:
    for host in _hosts(flow):
        if host["paused"]:
            name = f"{host['source']}/{host['host']}"
            yield BEHIND, f"{name} is paused by people: sluice source resume {name}."
        elif not host["connected"]:
            yield TROUBLE, f"Not connected to {host['host']} ({host['source']})."
    if gaps := int(sum(flow.newest("ingester_gaps_unclosed", source=each[0]) or 0 for each in _sources(flow))):
        yield TROUBLE, f"{gaps} gaps in what came from upstream have not been made good."


def _sources(flow: Flow) -> Sequence[tuple[str, ...]]:
    return list(flow.counts("ingester_gaps_unclosed", "source"))


def _live(flow: Flow) -> str:
    behind = flow.behind_seconds()
    if flow.is_recorded:
        return "A recorded network is playing."
    if behind is None:
        return "No live event has been indexed yet."
    live = flow.streams().get("firehose_live")
    waits = max(behind, live.oldest_seconds if live else 0.0)
    return f"Live rows are {duration(waits)} behind the network."


def _backfill(flow: Flow, history: History) -> str:
    numbers = _backfill_numbers(flow, history)
    if not numbers["left"]:
        return "No repo waits for backfill."
    left = f", about {duration(numbers['seconds_left'])} left" if numbers["seconds_left"] else ""
    return f"{numbers['left']:,} repos wait for backfill{left}."


def _backfill_numbers(flow: Flow, history: History) -> dict[str, Any]:
    waiting = sum(
        s.length or 0 for name, s in flow.streams().items() if name.startswith("repo_backfill") and _is_work(name)
    )
    parked = flow.newest("backfiller_retry_queue_length") or 0.0
    left = int(waiting + parked)
    speed = history.mean("repos", OVER_SECONDS)
    return {
        "left": left,
        "running": int(flow.total("backfiller_repos_running")),
        "parked": int(parked),
        "processed": int(flow.total("backfiller_repos_processed_total")),
        "failed": int(flow.total("backfiller_repos_failed_total")),
        "seconds_left": left / speed if left and speed else None,
    }


def _is_work(stream: str) -> bool:
    return not stream.endswith("_dlq")


def _is_paused(flow: Flow, stream: str) -> bool:
    """Whether somebody waits for room: the ingester says so for all its streams, the backfiller for its output."""
    found = flow.streams()[stream]
    full = found.fill >= 0.8
    ingests = flow.total("ingester_backpressure_active") > 0 and stream not in (
        "firehose_backfill",
        "repo_backfill_dlq",
    )
    backfills = flow.total("backfiller_backpressure_active") > 0 and stream == "firehose_backfill"
    return full and (ingests or backfills)


def _hosts(flow: Flow) -> list[dict[str, Any]]:
    found = []
    for source, host in sorted(_upstreams(flow)):
        labels = {"source": source, "host": host}
        event = flow.newest("ingester_upstream_last_event_timestamp_seconds", **labels)
        received = flow.newest("ingester_upstream_last_received_timestamp_seconds", **labels)
        connected = flow.newest("ingester_upstream_connected", **labels)
        found.append(
            {
                **labels,
                "connected": bool(connected),
                "paused": bool(flow.newest("ingester_source_paused", **labels)),
                "behind_seconds": max(0.0, received - event) if received and event and not flow.is_recorded else None,
                "quiet_seconds": max(0.0, flow.at - received) if received else None,
                "seq": flow.newest("ingester_upstream_received_seq", **labels),
            }
        )
    return found


def _upstreams(flow: Flow) -> set[tuple[str, str]]:
    rows = (row for daemon in flow.daemons for row in daemon.samples.rows("ingester_upstream_connected"))
    return {(having["source"], having["host"]) for having, _ in rows}


def _daemon(now: float, daemon: Daemon) -> dict[str, Any]:
    samples = daemon.samples
    started = samples.value("process_start_time_seconds")
    build = next((having for having, _ in samples.rows("sluice_build_info")), {})
    lag = samples.total("sluice_event_loop_lag_seconds_count")
    return {
        "address": daemon.address,
        "kind": daemon.kind,
        "ready": daemon.is_up and not daemon.complaint,
        "complaint": daemon.complaint,
        "version": build.get("version", ""),
        "commit": build.get("commit", ""),
        "uptime_seconds": now - started if started else None,
        "memory_bytes": samples.value("process_resident_memory_bytes"),
        "loop_lag_seconds": samples.total("sluice_event_loop_lag_seconds_sum") / lag if lag else None,
    }


def _stream(stream: Stream, paused: bool) -> dict[str, Any]:
    return {
        "name": stream.name,
        "length": stream.length,
        "high_water": stream.high_water,
        "fill": stream.fill,
        "lag": stream.lag,
        "pending": stream.pending,
        "oldest_seconds": stream.oldest_seconds,
        "paused": paused,
        "is_work": _is_work(stream.name),
    }


def duration(seconds: float) -> str:
    """As people say it: 40 ms, 0.4 s, 12 s, 5 min, 3.2 h, 2.1 days."""
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"
