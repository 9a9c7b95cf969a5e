"""How a daemon is seen from outside: JSON logs, and /metrics, /healthz, /readyz from a thread of their own."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, disable_created_metrics, generate_latest

from common.daemon import stopped_within
from common.errors import CannotStart

HEARTBEAT_SECONDS = 1.0
STALLED_SECONDS = 30.0
_RECORD_FIELDS = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types here
LOG_MESSAGES = Counter("sluice_log_messages", "Log records by level.", ["level"])
for _level in ("INFO", "WARNING", "ERROR"):
    LOG_MESSAGES.labels(_level)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; JSON escapes the control characters that the network may have put into a text."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _RECORD_FIELDS}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class _CountingHandler(logging.StreamHandler[Any]):
    def emit(self, record: logging.LogRecord) -> None:
        LOG_MESSAGES.labels(record.levelname).inc()
        super().emit(record)


def log_as_json(level: str) -> None:
    """Raises CannotStart if the level is no level."""
    handler = _CountingHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    try:
        logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    except ValueError as error:
        raise CannotStart(f"LOG_LEVEL: {level!r} is none of DEBUG, INFO, WARNING, ERROR") from error


class Health:
    """Whether the event loop still turns, and whether the daemon is doing its work."""

    def __init__(self) -> None:
        self.ready = False
        self.remark = ""  # what people have asked for and may forget, told by /readyz
        self._last_beat = time.monotonic()

    async def beat(self, stop: asyncio.Event) -> None:
        """Service: a sign of life every second, which a blocked loop cannot give."""
        self.ready = True
        while not stop.is_set():
            self._last_beat = time.monotonic()
            await stopped_within(stop, HEARTBEAT_SECONDS)
        self.ready = False

    def is_alive(self) -> bool:
        return time.monotonic() - self._last_beat < STALLED_SECONDS


def serve_metrics(port: int, health: Health, host: str = "") -> Callable[[], None]:
    """Answer on `port` (0: none) from a thread, so that a busy loop still answers. The result stops the server.

    Raises CannotStart if the port is taken.
    """
    pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
        "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY)),
        "/healthz": lambda: _verdict(health.is_alive(), "the event loop stands still"),
        "/readyz": lambda: _verdict(health.ready and health.is_alive(), "starting, stopping or stalled", health.remark),
    }

    class Handler(BaseHTTPRequestHandler):
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

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop


def _verdict(good: bool, complaint: str, remark: str = "") -> tuple[int, str, bytes]:
    fine = f"ok; {remark}\n" if remark else "ok\n"
    return (200, "text/plain", fine.encode()) if good else (503, "text/plain", f"{complaint}\n".encode())
