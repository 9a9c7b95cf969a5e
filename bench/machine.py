"""What the machine was doing while we measured, and the CPU time of processes (Linux)."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def load() -> str:
    """How busy the machine is and how fast it is just now: a shared one changes by a factor of three."""
    averages = " ".join(f"{average:.1f}" for average in os.getloadavg())
    return f"load {averages} on {os.cpu_count()} cores, {addition_nanoseconds():.0f} ns an addition"


def addition_nanoseconds() -> float:
    """CPU time of one turn of the simplest loop in Python: about 40 on a machine of its own."""
    started, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number
    return (time.process_time() - started) * 1000


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    command: str
    cpu_seconds: float
    rss_mb: float


def processes() -> list[Process]:
    return [process for entry in Path("/proc").glob("[0-9]*") if (process := _read(entry))]


def cpu_seconds(matching: str) -> float:
    """CPU seconds so far of all processes whose command line has `matching` in it."""
    return sum(process.cpu_seconds for process in processes() if matching in process.command)


def peak_rss_mb(pid: int) -> float:
    """The most memory that a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _read(entry: Path) -> Process | None:
    try:
        stat = (entry / "stat").read_text().rpartition(")")[2].split()
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    rss = int(stat[21]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return Process(int(entry.name), int(stat[1]), command, (int(stat[11]) + int(stat[12])) / _TICK, rss)


def wanted_seconds(pid: int) -> float:
    """How long a process has had a core or waited for one: the rest of the time it had nothing to do."""
    running, waiting, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return (int(running) + int(waiting)) / 1e9
