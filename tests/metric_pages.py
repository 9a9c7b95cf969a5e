"""Pages of metrics as daemons serve them, cut down to what a test is about."""

from collections.abc import Mapping

from sluice.flow import Daemon, Flow, flow_of
from sluice.samples import Samples

START = {"process_start_time_seconds": 1000.0, "process_resident_memory_bytes": 100 << 20}
MARKS = {
    "ingester": "ingester_errors_total",
    "backfiller": "backfiller_repos_running",
    "indexer": "indexer_errors_total",
}


def page(kind: str, streams: Mapping[str, tuple[int, int]] | None = None, **samples: float) -> str:
    """A page of this daemon. `streams` are name -> (length, high water mark); of a sample name, `__` begins its labels:
    ingester_upstream_connected__source_firehose__host_relay."""
    lines = [f"{name} {value}" for name, value in {MARKS[kind]: 0.0, **START}.items() if name not in samples]
    for name, (length, mark) in (streams or {}).items():
        lines += [
            f'sluice_stream_length{{stream="{name}"}} {length}',
            f'sluice_stream_high_water{{stream="{name}"}} {mark}',
        ]
    for key, value in samples.items():
        name, *labels = key.split("__")
        pairs = ('{0}="{2}"'.format(*label.partition("_")) for label in labels)
        lines.append(f"{name}{{{','.join(pairs)}}} {value}")
    return "\n".join(lines) + "\n"


def flow(at: float, *pages: str, silent: tuple[str, ...] = ()) -> Flow:
    """As seen at this time: each page is a daemon of its own; the silent ones do not answer."""
    daemons = [Daemon(f"d{n}:1", _kind(text), "", Samples.of(text)) for n, text in enumerate(pages)]
    return flow_of(at, [*daemons, *(Daemon(address, "", "does not answer: refused") for address in silent)])


def _kind(text: str) -> str:
    return next(kind for kind, mark in MARKS.items() if f"\n{mark}" in f"\n{text}")
