"""The log: one JSON object a line, counted by level, without secrets."""

import logging
import re
import sys
import time
from typing import Any

import orjson
from prometheus_client import Counter, disable_created_metrics

from common.errors import CannotStart

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types here
LOG_MESSAGES = Counter("sluice_log_messages", "Log records by level.", ["level"])
for _level in ("INFO", "WARNING", "ERROR"):
    LOG_MESSAGES.labels(_level)

_RECORD_FIELDS = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# an address with a name and a password in it, as libraries put into the texts of their errors
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@:\"'\\]*:[^\s/@\"'\\]*(?=@)")
_TOKENS = re.compile(
    r"(?i)\b(authorization|password|passwd|secret|token)(\W{0,3}[=:]\W{0,3})(bearer |basic )?[^\s\"',;&\\]+"
)


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
        return redacted(orjson.dumps(line, default=str).decode())


def redacted(text: str) -> str:
    """The text without passwords and tokens: logs are read by more people than secrets are for."""
    return _TOKENS.sub(r"\1\2***", _CREDENTIALS.sub("***", text))


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
