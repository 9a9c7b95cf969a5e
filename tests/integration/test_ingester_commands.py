"""`sluice gaps`, `cursor`, `source` and `filter`, as a person runs them beside an ingester."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from common.repo_states import RepoStates
from ingester.cursors import LISTING_DONE
from ingester.gaps import Gap, GapLedger
from ingester.switches import reading_key
from sluice.server import free_port
from tests.commands import Ended, sluice
from tests.ingesting import StartIngester, host, on_the_stream, recorded, until_cursor, until_metric
from tests.recorded_network import StartNetwork
from tests.waiting import until

Run = Callable[..., Awaitable[Ended]]
HOST = "relay.example.com"
KEY = f"firehose_live:cursor:{HOST}"


@pytest.fixture
def run(redis_url: str, tmp_path: Path) -> Run:
    """A command with the ingester's environment."""

    async def ran(*arguments: str, **environ: str) -> Ended:
        return await sluice(*arguments, folder=tmp_path, environ={"REDIS_URL": redis_url} | environ)

    return ran


def missed(**changes: Any) -> Gap:
    fields = {"source": "firehose", "host": HOST, "kind": "seq_jump", "after": 5, "before": 9, "why": "it jumped"}
    return Gap(**(fields | changes))


async def ledger(redis: Redis) -> list[tuple[str, int, int | None, str]]:
    return [(gap.kind, gap.after, gap.before, gap.state) for gap in await GapLedger(redis).all()]


async def readiness(daemon: Any) -> tuple[int, str]:
    async with ClientSession() as http, http.get(f"http://127.0.0.1:{daemon.port}/readyz") as answer:
        return answer.status, await answer.text()


async def test_gaps_are_listed_and_closed(redis: Redis, run: Run) -> None:
    none = await run("gaps")
    assert (none.code, none.out) == (0, "no gap is open\n")
    await GapLedger(redis).record(missed())
    listed = await run("gaps")
    assert listed.code == 1
    assert all(text in listed.out for text in ("firehose/relay.example.com/seq_jump/5", "open", "it jumped"))
    (row,) = json.loads((await run("gaps", "--json")).out)
    assert (row["gap"], row["after"], row["before"]) == ("firehose/relay.example.com/seq_jump/5", 5, 9)
    closed = await run("gaps", "close", row["gap"])
    assert (closed.code, closed.error) == (0, "")
    assert (await run("gaps", "--json")).out == "[]\n"
    (kept,) = json.loads((await run("gaps", "--all", "--json")).out)
    assert (kept["state"], kept["closed_at"] is None) == ("closed", False)


async def test_a_gap_that_is_not_there_is_not_closed(redis: Redis, run: Run) -> None:
    ended = await run("gaps", "close", "firehose/x")
    assert (ended.code, "there is no gap firehose/x" in ended.error) == (1, True)


async def test_a_redis_that_does_not_answer_is_said_so(run: Run) -> None:
    for command in (("gaps",), ("cursor", "show"), ("cursor", "set", HOST, "5")):
        ended = await run(*command, REDIS_URL="redis://127.0.0.1:1")
        assert (ended.code, "cannot start: redis does not answer" in ended.error) == (2, True)


async def test_cursors_are_shown_with_who_reads_them(redis: Redis, run: Run) -> None:
    await redis.mset({KEY: 17, reading_key(KEY): 1, "label_live:cursor:mod.example.com": 3})
    assert json.loads((await run("cursor", "show", "--json")).out) == [
        {"stream": "firehose_live", "host": HOST, "cursor": "17", "is_read": True},
        {"stream": "label_live", "host": "mod.example.com", "cursor": "3", "is_read": False},
    ]
    await redis.set(f"repo_backfill:cursor:{HOST}", LISTING_DONE)
    shown = (await run("cursor", "show")).out
    assert "mod.example.com" in shown
    assert "listed to its end" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("set", HOST, "20"), "--force moves it to 20"),
        (("set", HOST, "5"), "--force moves it to 5"),
        (("set", HOST, "five", "--force"), "'five' is no sequence number"),
        (("set", HOST, "20", "--stream", "live"), "choose one of firehose_live, label_live, repo_backfill"),
    ],
)
async def test_a_cursor_is_not_moved_by_mistake(redis: Redis, run: Run, arguments: tuple[str, ...], says: str) -> None:
    await redis.set(KEY, 17)
    ended = await run("cursor", *arguments)
    assert (ended.code, says in ended.error) == (1, True)
    assert (await redis.get(KEY), await ledger(redis)) == (b"17", [])


async def test_a_cursor_is_not_moved_while_an_ingester_reads(redis: Redis, run: Run) -> None:
    await redis.mset({KEY: 17, reading_key(KEY): 1})
    ended = await run("cursor", "set", HOST, "20", "--force")
    assert (ended.code, f"sluice source pause firehose/{HOST}" in ended.error) == (1, True)
    assert (await redis.get(KEY), await ledger(redis)) == (b"17", [])


@pytest.mark.parametrize(
    ("before", "seq", "gap"),
    [
        (17, "40", ("cursor_set", 17, None, "open")),
        (17, "0", ("cursor_set", 17, 0, "closed")),
        (None, "40", ("cursor_set", 0, 40, "closed")),
    ],
)
async def test_a_cursor_that_is_set_stands_in_the_ledger(
    redis: Redis, run: Run, before: int | None, seq: str, gap: tuple[Any, ...]
) -> None:
    if before is not None:
        await redis.set(KEY, before)
    ended = await run("cursor", "set", HOST.upper(), seq, "--force")
    assert (ended.code, ended.error) == (0, "")
    assert (await redis.get(KEY), await ledger(redis)) == (seq.encode(), [gap])


async def test_a_cursor_that_is_there_already_is_left_alone(redis: Redis, run: Run) -> None:
    await redis.set(KEY, 17)
    assert (await run("cursor", "set", HOST, "17")).code == 0
    assert await ledger(redis) == []


async def test_a_source_is_paused_and_resumed_without_loss(
    redis: Redis, network: StartNetwork, ingester: StartIngester, run: Run
) -> None:
    served, port = await network("load-tiny", pace=50), str(free_port())
    daemon = await ingester(served, INGESTER_ADMIN_PORT=port)
    await until_cursor(redis, served, 20)
    name = f"firehose/{host(served)}"
    assert (await run("source", "pause", name, INGESTER_ADMIN_PORT=port)).code == 0
    await until_metric(daemon, "websocket_connections", lambda open: open == 0)
    await until_metric(daemon, "events_in_memory", lambda held: held == 0)
    where = await redis.get(f"firehose_live:cursor:{host(served)}")
    assert int(where or 0) < served.firehose.last_seq
    assert await readiness(daemon) == (200, f"ok; paused: {name}\n")
    (row,) = [
        row
        for row in (await run("source", "list", "--json", INGESTER_ADMIN_PORT=port)).result["sources"]
        if row["name"] == name
    ]
    assert row == {"name": name, "paused": True, "connected": False, "cursor": (where or b"").decode()}
    assert "paused" in (await run("source", "list", INGESTER_ADMIN_PORT=port)).out
    served.firehose.pace = None
    assert (await run("source", "resume", name, INGESTER_ADMIN_PORT=port)).code == 0
    assert await readiness(daemon) == (200, "ok\n")
    await until_cursor(redis, served)
    assert await on_the_stream(redis) == recorded(served.recording.frames)
    metrics = await daemon.metrics()
    assert (metrics.unaccounted, metrics["source_paused"]) == (0, 0)


async def test_the_filter_is_changed_while_frames_come(
    redis: Redis, network: StartNetwork, ingester: StartIngester, run: Run, tmp_path: Path
) -> None:
    served, port = await network("load-tiny", pace=50), str(free_port())
    token = tmp_path / "token"
    token.write_text("sesame\n")
    admin = {"INGESTER_ADMIN_PORT": port, "INGESTER_ADMIN_TOKEN_FILE": str(token)}
    await ingester(served, **admin)
    await until_cursor(redis, served, 20)
    refused = await run("filter", "set", "app.bsky.feed.like", INGESTER_ADMIN_PORT=port)
    assert (refused.code, "the token is missing or wrong" in refused.error) == (1, True)
    changed = await run("filter", "set", "app.bsky.feed.like", **admin)
    assert (changed.code, changed.out) == (0, "app.bsky.feed.like (chosen at run time)\n")
    served.firehose.pace = None
    await until_cursor(redis, served)
    late = [event[3] for event in (await on_the_stream(redis))[-200:] if event[1] == "create"]
    assert {path.partition("/")[0] for path in late} == {"app.bsky.feed.like"}
    assert (await run("filter", "reset", **admin)).out == "* (by the settings)\n"


async def test_where_the_endpoint_is_must_be_known(run: Run) -> None:
    nowhere = await run("source", "list")
    assert (nowhere.code, "Set INGESTER_ADMIN_PORT" in nowhere.error) == (2, True)
    silent = await run("source", "list", "--url", "http://127.0.0.1:1")
    assert (silent.code, "no ingester answers at http://127.0.0.1:1" in silent.error) == (2, True)


async def test_every_command_says_what_it_does(run: Run) -> None:
    for command in ("gaps", "cursor", "source", "filter"):
        ended = await run(command, "--help")
        assert ended.code == 0
        text = " ".join(ended.out.replace("│", "").split())
        assert "Configured as the ingester" in text or "INGESTER_ADMIN_PORT" in text


async def test_a_jump_that_was_made_by_hand_is_compared(
    redis: Redis, network: StartNetwork, ingester: StartIngester, run: Run
) -> None:
    served = await network("load-tiny")
    await redis.set(f"firehose_live:cursor:{host(served)}", "100")
    assert (await run("cursor", "set", host(served), "1500", "--force")).code == 0
    await ingester(served)
    await until_cursor(redis, served)

    async def is_closed() -> bool:
        return await ledger(redis) == [("cursor_set", 100, 1501, "closed")]

    await until(is_closed)
    jobs: Any = [*await redis.xrange("repo_backfill"), *await redis.xrange("repo_backfill_high")]
    queued = {json.loads(fields[b"repo"])["did"] for _, fields in jobs}
    missed = {event[2] for event in recorded(served.recording.frames) if 100 < event[0] <= 1500}
    gone = {repo.did for repo in served.recording.repos if not repo.active}
    others = await RepoStates(redis).read(sorted(missed - gone - queued))
    assert all(state is not None and state.is_whole for state in others), "begun anew upon an empty repo"
    assert len(missed & queued) > len(others)
