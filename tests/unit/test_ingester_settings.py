"""The ingester's settings: the defaults that others rely on, and what stops the start with one clear line."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from common.errors import BadInput, CannotStart
from common.settings import load
from ingester.app import work_of
from ingester.cursors import cursor_key, sequence_number
from ingester.settings import Settings
from ingester.upstream import Upstream, upstream_of, upstreams


def settings(**environ: str) -> Settings:
    return load(Settings, environ, prefix="INGESTER_")


def complaint(**environ: str) -> str:
    with pytest.raises(CannotStart) as caught:
        work_of(settings(**environ))
    return str(caught.value)


def upstream(name: str) -> Upstream:
    (found,) = upstreams("INGESTER_RELAY_HOSTS", (name,))
    return found


def test_nothing_needs_to_be_set() -> None:
    chosen = settings()
    assert (chosen.relay_hosts, chosen.labeler_hosts, chosen.modes) == (("bsky.network",), (), ("all",))
    assert (chosen.high_water_mark, chosen.batch_size, chosen.batch_timeout_ms) == (100_000, 500, 1000)
    assert (chosen.redis_url, chosen.metrics_port) == ("redis://localhost:6379", 4100)


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.metadata["help"].endswith(".") for field in dataclasses.fields(Settings))


def test_the_redis_url_never_shows() -> None:
    assert "sesame" not in repr(settings(REDIS_URL="redis://:sesame@localhost"))


def test_a_misspelt_variable_stops_the_start() -> None:
    assert "INGESTER_RELAY_HOST is unknown" in complaint(INGESTER_RELAY_HOST="bsky.network")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("INGESTER_MODE", "firehose,backfil", "'backfil' is none of all, firehose, backfill, labeler"),
        ("INGESTER_MODE", "", "is none of all, firehose, backfill, labeler"),
        ("INGESTER_COLLECTIONS", "app.bsky.", "'app.bsky.' is no collection"),
        ("INGESTER_RELAY_HOSTS", "bsky network", "'bsky network' is no host"),
        ("INGESTER_RELAY_HOSTS", "ftp://bsky.network", "'ftp://bsky.network' is no host"),
        ("INGESTER_RELAY_HOSTS", "bsky.network/xrpc", "'bsky.network/xrpc' is no host"),
        ("INGESTER_RELAY_HOSTS", "bsky.network:99999", "'bsky.network:99999' is no host"),
        ("INGESTER_RELAY_HOSTS", "bsky.network,wss://BSKY.network/", "bsky.network is there twice"),
        ("INGESTER_LABELER_HOSTS", "?", "INGESTER_LABELER_HOSTS: '?' is no host"),
        ("INGESTER_LABELER_HOSTS", "did:key:z6Mk", "'did:key:z6Mk' is there twice, or is no did:plc or did:web"),
        ("INGESTER_LABELER_HOSTS", "did:web:a.example,did:web:a.example", "'did:web:a.example' is there twice"),
        ("INGESTER_LISTING_COLLECTION", "app.bsky.*", "'app.bsky.*' is no collection"),
    ],
)
def test_a_value_of_no_use_stops_the_start(variable: str, value: str, says: str) -> None:
    assert says in complaint(**{variable: value})


@pytest.mark.parametrize(
    ("modes", "services"),
    [
        ("all", (1, 1, 1)),
        ("firehose", (1, 0, 0)),
        ("backfill", (0, 1, 0)),
        ("labeler", (0, 0, 1)),
        ("firehose,labeler", (1, 0, 1)),
    ],
)
def test_the_mode_selects_what_runs(modes: str, services: Any) -> None:
    work = work_of(settings(INGESTER_MODE=modes, INGESTER_LABELER_HOSTS="mod.bsky.app"))
    assert (len(work.firehoses), len(work.listed), len(work.labelers)) == services


def test_labelers_are_set_by_host_or_by_did() -> None:
    did = "did:plc:ar7c4by46qjdydhdevvrndac"
    work = work_of(settings(INGESTER_MODE="labeler", INGESTER_LABELER_HOSTS=f"mod.bsky.app,{did}"))
    assert ([labeler.host for labeler in work.labelers], work.labeler_dids) == (["mod.bsky.app"], (did,))


def test_the_admin_token_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame\n")
    chosen = settings(INGESTER_ADMIN_TOKEN_FILE=str(tmp_path / "token"))
    assert (chosen.admin_token, "sesame" in repr(chosen)) == ("sesame", False)


@pytest.mark.parametrize(
    ("name", "host", "url"),
    [
        ("bsky.network", "bsky.network", "wss://bsky.network"),
        ("wss://bsky.network/", "bsky.network", "wss://bsky.network"),
        ("https://BSKY.network.:443", "bsky.network", "wss://bsky.network"),
        ("ws://bsky.network:443", "bsky.network:443", "ws://bsky.network:443"),
        ("ws://127.0.0.1:2470", "127.0.0.1:2470", "ws://127.0.0.1:2470"),
        ("http://localhost:2470/", "localhost:2470", "ws://localhost:2470"),
        ("ws://[::1]:2470", "[::1]:2470", "ws://[::1]:2470"),
    ],
)
def test_a_host_has_one_canonical_spelling_whatever_its_scheme(name: str, host: str, url: str) -> None:
    found = upstream(name)
    assert (found.host, found.websocket_url) == (host, url)
    assert found.http_url == url.replace("ws", "http", 1)


@pytest.mark.parametrize("url", ["https://a.example/path", "ftp://a.example", "https://a_b.example", "", "https://a:0"])
def test_an_address_of_no_use_in_a_document_is_bad_input(url: str) -> None:
    with pytest.raises(BadInput, match="forbidden_url"):
        upstream_of(url)
    assert upstream_of("https://A.example:8443/").http_url == "https://a.example:8443"


@pytest.mark.parametrize(
    ("name", "origin"),
    [("a.example", "a.example:443"), ("http://a.example", "a.example:80"), ("ws://[::1]:5", "[::1]:5")],
)
def test_an_origin_always_has_its_port(name: str, origin: str) -> None:
    assert upstream(name).origin == origin


def test_cursor_keys_are_those_that_others_read_and_write() -> None:
    relay = upstream("wss://bsky.network")
    keys = [cursor_key(stream, relay.host) for stream in ("firehose_live", "label_live", "repo_backfill")]
    assert keys == [
        "firehose_live:cursor:bsky.network",
        "label_live:cursor:bsky.network",
        "repo_backfill:cursor:bsky.network",
    ]


def test_a_missing_cursor_is_the_oldest_event() -> None:
    assert (sequence_number("key", ""), sequence_number("key", "17")) == (0, 17)


@pytest.mark.parametrize("stored", ["-1", "seventeen", "1.5", "²", " 1"])
def test_a_cursor_that_is_no_number_stops_the_start(stored: str) -> None:
    with pytest.raises(CannotStart, match="key holds"):
        sequence_number("key", stored)
