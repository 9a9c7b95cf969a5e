"""`sluice verify` against real daemons: what it finds in order, what it finds wrong, and that it leaves no trace."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from asyncpg import Pool
from redis.asyncio import Redis

from common.redis_connection import open_redis
from indexer.names import Names
from sluice.pipeline import Pipeline
from sluice.prometheus import Prometheus
from sluice.verify_event import MarkedEvent
from sluice.verify_prometheus import of_prometheus, queries
from tests.commands import Ended, sluice
from tests.rows import all_rows
from tests.serving import serving
from tests.waiting import until


async def at_rest(deployment: Pipeline, redis: Redis) -> None:
    """Everything recorded is in Postgres."""

    async def written() -> bool:
        metrics = await deployment.metrics()
        return metrics["indexer_db_writes_total"] > 0 and not metrics["ingester_events_in_memory"]

    await until(written)
    await until(lambda: drained(redis))


async def drained(redis: Redis) -> bool:
    return await redis.xlen("firehose_live") == 0


async def verify(deployment: Pipeline, folder: Path, *more: str) -> Ended:
    targets = [word for address in deployment.addresses() for word in ("--target", address)]
    wiring = deployment.wiring
    environ = {"REDIS_URL": wiring.redis_url, "DATABASE_URL": wiring.database_url}
    return await sluice("verify", *targets, *more, folder=folder, environ=environ)


async def test_a_deployment_that_works_passes_and_keeps_no_trace(
    deployment: Pipeline, redis: Redis, pool: Pool, tmp_path: Path
) -> None:
    await at_rest(deployment, redis)
    ended = await verify(deployment, tmp_path)
    assert (ended.code, ended.error) == (0, ""), ended.out
    assert "pass  a marked event reaches Postgres: after 0." in ended.out
    assert "pass  the ingester exports every metric of the contract: 8 names" in ended.out
    assert "skip  prometheus, its rules and the dashboards: no --prometheus URL" in ended.out
    assert ended.out.endswith("0 failed, 1 skipped\n")
    assert "sluice-verify" not in repr(await all_rows(pool))


async def test_what_is_down_fails_by_name(deployment: Pipeline, redis: Redis, tmp_path: Path) -> None:
    await at_rest(deployment, redis)
    await deployment.daemons[0].stop()
    ended = await verify(deployment, tmp_path, "--within", "1", "--json")
    assert ended.code == 1
    failed = {check["name"]: check["detail"] for check in ended.result["checks"] if check["outcome"] == "FAIL"}
    assert "does not answer" in failed["every target answers and is ready"]
    assert failed["the daemons that every deployment has run"] == "no indexer"
    assert failed["a marked event reaches Postgres"].startswith("not within 1 s; is an indexer reading")


async def test_where_postgres_is_not_the_check_says_what_to_look_at(deployment: Pipeline, tmp_path: Path) -> None:
    deployment.wiring.__dict__["database_url"] = "postgres://127.0.0.1:1/none"
    ended = await verify(deployment, tmp_path)
    assert ended.code == 1
    assert "FAIL  a marked event reaches Postgres" in ended.out
    assert "check DATABASE_URL" in ended.out


async def test_an_event_that_nobody_takes_is_followed_by_its_delete(redis_url: str, pool: Pool) -> None:
    """So that an indexer that comes later leaves no record of it."""
    async with open_redis(redis_url) as redis, pool.acquire() as connection:
        journey = await MarkedEvent(redis, connection, Names("bsky")).travel(0.1)
        entries: Any = await redis.xrange("firehose_live")
    assert journey.written is None
    assert [json.loads(fields[b"event"])["type"] for _, fields in entries] == ["create", "delete"]
    assert json.loads(entries[0][1][b"event"])["rev"] < json.loads(entries[1][1][b"event"])["rev"]


# what a Prometheus says


@pytest.fixture
async def prometheus() -> AsyncIterator[tuple[Prometheus, dict[str, Any]]]:
    """One whose answers a test writes: by path, and for a query that contains a text."""
    answers: dict[str, Any] = {
        "targets": {"activeTargets": [{"labels": {"instance": "a:1"}, "health": "up", "lastError": ""}]},
        "rules": {"groups": [{"rules": [{"name": "A", "health": "ok"}]}]},
        "query": {"result": [{"value": [0, "1"]}]},
        "asked": [],
    }

    async def answer(request: web.Request) -> web.Response:
        query = request.query.get("query", "")
        answers["asked"].append(query)
        if "refused" in query:
            return web.json_response({"status": "error", "error": "parse error"}, status=400)
        data = {"result": []} if "empty" in query else answers[request.match_info["path"]]
        return web.json_response({"status": "success", "data": data})

    async with serving(web.get("/api/v1/{path}", answer)) as origin, ClientSession() as http:
        yield Prometheus(http, f"http://{origin}/"), answers


@pytest.fixture
def dashboards(tmp_path: Path) -> Path:
    """A board with a row that has panels of its own."""
    panels = [
        {
            "title": "rate",
            "targets": [{"expr": 'sum(rate(a{instance=~"$instance"}[$__rate_interval]))'}, {"refId": "B"}],
        },
        {"title": "row", "panels": [{"title": "inner", "targets": [{"expr": "empty[${__range}]"}]}]},
        {"title": "text"},
    ]
    (tmp_path / "board.json").write_text(json.dumps({"panels": panels}))
    return tmp_path


def test_every_panel_is_asked_with_everything_chosen(dashboards: Path) -> None:
    assert list(queries(dashboards)) == [
        ("board / rate", 'sum(rate(a{instance=~".+"}[5m]))'),
        ("board / inner", "empty[5m]"),
    ]
    with pytest.raises(ValueError, match="no dashboard in"):
        list(queries(dashboards / "none"))


async def test_a_good_prometheus_passes(prometheus: tuple[Prometheus, dict[str, Any]], dashboards: Path) -> None:
    checks = await of_prometheus(prometheus[0], dashboards)
    assert [(check.outcome, check.detail) for check in checks] == [
        ("pass", "1 targets"), ("pass", "1 rules"), ("pass", "2 queries, 1 without data: board / inner"),
    ]  # fmt: skip


async def test_what_a_prometheus_finds_wrong_fails_by_name(
    prometheus: tuple[Prometheus, dict[str, Any]], dashboards: Path
) -> None:
    asked, answers = prometheus
    answers["targets"]["activeTargets"].append(
        {"labels": {"instance": "b:1"}, "health": "down", "lastError": "refused"}
    )
    answers["rules"]["groups"][0]["rules"].append({"name": "B", "health": "err", "lastError": "many-to-many"})
    (dashboards / "board.json").write_text(
        json.dumps({"panels": [{"title": "bad", "targets": [{"expr": "refused("}]}]})
    )
    checks = await of_prometheus(asked, dashboards)
    assert [(check.outcome, check.detail) for check in checks] == [
        ("FAIL", "b:1 (refused)"),
        ("FAIL", "B: many-to-many"),
        ("FAIL", "board / bad: Prometheus refuses: parse error"),
    ]


async def test_no_prometheus_is_a_failure_that_says_where() -> None:
    async with ClientSession() as http:
        (check,) = await of_prometheus(Prometheus(http, "http://127.0.0.1:1"), None)
    assert check.outcome == "FAIL"
    assert check.detail.startswith("no Prometheus answers at http://127.0.0.1:1: ")
