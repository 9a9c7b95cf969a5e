"""How a daemon is seen from outside: /metrics, /healthz, /readyz and /status.json from a thread of their own."""

import asyncio
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, Histogram, generate_latest

from common.build import commit, show_build, version
from common.daemon import stopped_within
from common.errors import CannotStart
from common.progress import Progress, ProgressWatch

BEAT_SECONDS = 0.25
STALLED_SECONDS = 30.0
LOOK_SECONDS = 5.0

HEARTBEAT = Gauge("sluice_heartbeat_timestamp_seconds", "Unix time of the event loop's last sign of life.")
LOOP_LAG = Histogram(
    "sluice_event_loop_lag_seconds",
    "How late the event loop gives its signs of life: the wait that every other task has as well.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
READY = Gauge("sluice_ready", "1 while the daemon does its work or waits for what others must mend: as /readyz says.")


class Health:
    """Whether the event loop still turns, and whether the daemon gets on with its work."""

    def __init__(self, progress: Progress) -> None:
        self.started_at = time.time()
        self._runs = False
        self.remark = ""  # what people have asked for and may forget, told by /readyz
        self._last_beat = time.monotonic()
        self._watch = ProgressWatch(progress, time.time())
        READY.set_function(lambda: not self.complaint())
        show_build()

    async def beat(self, stop: asyncio.Event) -> None:
        """Service: signs of life, which a blocked loop cannot give."""
        self._runs = True
        while not stop.is_set():
            self._last_beat = time.monotonic()
            HEARTBEAT.set_to_current_time()
            await stopped_within(stop, BEAT_SECONDS)
            LOOP_LAG.observe(max(0.0, time.monotonic() - self._last_beat - BEAT_SECONDS))
        self._runs = False

    def look(self) -> None:
        """Take in what the daemon exports now. Not on the event loop, so that nothing there can hold it up."""
        self._watch.observe(REGISTRY.collect(), time.time())

    def is_alive(self) -> bool:
        return time.monotonic() - self._last_beat < STALLED_SECONDS

    def complaint(self) -> str:
        """Why the daemon is not ready; nothing if it is."""
        if not self._runs:
            return "starting or stopping"
        return self._watch.complaint(time.time()) if self.is_alive() else "the event loop stands still"

    def status(self) -> dict[str, Any]:
        """Times are Unix times, None where something has not moved since the start."""
        complaint = self.complaint()
        return {
            "version": version(),
            "commit": commit(),
            "started_at": self.started_at,
            "ready": not complaint,
            "complaint": complaint,
            "categories": {
                category: {"last_moved": max((at for at in moved.values() if at), default=None), "metrics": moved}
                for category, moved in self._watch.categories().items()
            },
        }


def serve_metrics(port: int, health: Health, host: str = "") -> Callable[[], None]:
    """Answer on `port` (0: none) from a thread, so that a busy loop still answers. The result stops the server.

    Raises CannotStart if the port is taken.
    """
    pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
        "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY)),
        "/healthz": lambda: _verdict("" if health.is_alive() else "the event loop stands still"),
        "/readyz": lambda: _verdict(health.complaint(), health.remark),
        "/status.json": lambda: (200, "application/json", orjson.dumps(health.status())),
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = 30  # whoever connects and says nothing holds a thread no longer

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, content_type, body = page() if page else (404, "text/plain", b"not here\n")
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Scrapes are not news."""

    if not port:
        return lambda: None
    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise CannotStart(f"metrics port {port}: {error.strerror}; free it or set METRICS_PORT to another") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    ended = threading.Event()
    threading.Thread(target=_look_until, args=(ended, health), name="progress", daemon=True).start()

    def stop() -> None:
        ended.set()
        server.shutdown()
        server.server_close()

    return stop


def _look_until(ended: threading.Event, health: Health) -> None:
    health.look()
    while not ended.wait(LOOK_SECONDS):
        health.look()


def _verdict(complaint: str, remark: str = "") -> tuple[int, str, bytes]:
    fine = f"ok; {remark}\n" if remark else "ok\n"
    return (503, "text/plain", f"{complaint}\n".encode()) if complaint else (200, "text/plain", fine.encode())
