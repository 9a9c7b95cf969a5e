"""What stands in the log: one JSON object a line, whatever the network put in, and never a secret."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import REGISTRY

from common.errors import CannotStart
from common.logs import log_as_json, redacted


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """The lines logged so far."""
    stream = io.StringIO()
    root, before, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    monkeypatch.setattr(sys, "stderr", stream)
    log_as_json("info")
    yield lambda: stream.getvalue().split("\n")[:-1]
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_is_one_json_object_whatever_the_network_put_in(log: Callable[[], list[str]]) -> None:
    text = 'a\r\nlevel: ERROR \x1b[31m\u2028"\\'
    logging.getLogger("x").warning("buried %s", text, extra={"entry": b"1-0", "error": text, "seconds": 1.5})
    (line,) = log()
    assert not any(character < " " for character in line)
    found = json.loads(line)
    assert (found["message"], found["error"], found["seconds"]) == (f"buried {text}", text, 1.5)
    assert (found["level"], found["logger"], found["entry"]) == ("WARNING", "x", "b'1-0'")
    assert found["time"].endswith("Z")


def test_a_fault_is_logged_with_where_it_came_from_in_the_same_line(log: Callable[[], list[str]]) -> None:
    try:
        raise ZeroDivisionError("ours")
    except ZeroDivisionError:
        logging.getLogger("x").exception("failed")
    (line,) = log()
    assert "ZeroDivisionError: ours" in json.loads(line)["error"]


def test_lines_are_counted_by_level_and_those_below_are_left_out(log: Callable[[], list[str]]) -> None:
    before = REGISTRY.get_sample_value("sluice_log_messages_total", {"level": "ERROR"}) or 0
    for level in (logging.DEBUG, logging.ERROR, logging.ERROR):
        logging.getLogger("x").log(level, "said")
    assert len(log()) == 2
    assert REGISTRY.get_sample_value("sluice_log_messages_total", {"level": "ERROR"}) == before + 2


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(CannotStart, match="LOG_LEVEL: 'loud'"):
        log_as_json("loud")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("redis://user:pa55@host:6379/0 is away", "redis://***@host:6379/0 is away"),
        ("postgres://:pa55@host/bsky", "postgres://***@host/bsky"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("password=hunter2&x=1", "password=***&x=1"),
        ("did:plc:abc at https://pds.example/xrpc/a@b", "did:plc:abc at https://pds.example/xrpc/a@b"),
        ("password authentication failed for user", "password authentication failed for user"),
    ],
)
def test_secrets_are_left_out_of_a_text(said: str, told: str) -> None:
    assert redacted(said) == told


def test_secrets_are_left_out_of_a_line_wherever_they_stand(log: Callable[[], list[str]]) -> None:
    url = "redis://sluice:pa55@host"
    fields = {"error": ValueError(url), "hosts": [url], "headers": {"Authorization": "Bearer pa55"}, "token": 'pa55"x'}
    try:
        raise ValueError(url)
    except ValueError:
        logging.getLogger("x").exception("lost %s", url, extra=fields)
    (line,) = log()
    assert "pa55" not in line
    assert json.loads(line)["message"] == "lost redis://***@host"
