"""The whole watch on the real daemons: every board has data, every rule is well, one daemon's end reaches somebody."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ops.boards.__main__ import BOARDS
from tests.commands import sluice
from tests.conftest import SHIPPED_RECORDINGS
from tests.monitoring.exporters import exporting
from tests.monitoring.play import BACKFILLERS, INDEXERS, Play, playing
from tests.monitoring.test_alerts import RULES, rules_of
from tests.monitoring.watch import Watch, has_number, watching
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)
RECORDING = SHIPPED_RECORDINGS / "full.tar.zst"
FRAMES_A_SECOND = 15.0
RATE_OVER = "5m"  # all that the daemons did here, however slow the machine
MARK = 60  # entries at which writing waits, where it is to wait soon
# nearly 5 % of what was recorded is there to be refused: whether that is too much for a moment depends on the timing
IN_THE_RECORDING = {"IndexerErrorRatioHigh"}


@dataclass(frozen=True)
class Watched:
    play: Play
    watch: Watch

    async def is_through(self) -> bool:
        """All that was recorded is received, and no stream holds anything, live or backfill."""
        sent = self.play.network.firehose.sent >= len(self.play.network.firehose)
        return sent and await self.watch.value("max(stream:sluice_stream_length:max)") == 0

    def was_told_of(self, alert: str, **labels: str) -> bool:
        return any(name == alert and labels.items() <= found.items() for name, found in self.watch.listener.alerts)

    def has_fired(self, alerts: set[str]) -> Callable[[], Awaitable[bool]]:
        return lambda: self._within(alerts, self.watch.firing())

    def is_held_back(self, alerts: set[str]) -> Callable[[], Awaitable[bool]]:
        return lambda: self._within(alerts, self.watch.held_back())

    async def _within(self, alerts: set[str], found: Awaitable[set[str]]) -> bool:
        return alerts <= await found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched() -> AsyncIterator[Watched]:
    """After all has flowed. Nothing does before Prometheus has looked at everyone: a rate needs a look before it."""
    async with (
        playing(RECORDING, pace=FRAMES_A_SECOND) as play,
        exporting(play.stage.redis_url, play.stage.postgres_url) as exporters,
        watching({**play.targets(), **exporters}) as watch,
    ):
        here = Watched(play, watch)
        await until(lambda: _all_up(watch))
        play.begin()
        await until(here.is_through, seconds=200)
        yield here


async def _all_up(watch: Watch) -> bool:
    return await watch.value('count(up{service=~"ingester|backfiller|indexer"} == 1)') == 1 + BACKFILLERS + INDEXERS


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", BOARDS)
async def test_every_query_of_a_board_has_data(watched: Watched, name: str) -> None:
    empty = []
    for row in BOARDS[name].rows:
        for panel in row.panels:
            for query in panel.queries:
                expr = query.expr.replace("$__rate_interval", RATE_OVER).replace("$instance", ".+")
                if not has_number(await watched.watch.query(expr)):
                    empty.append((row.title, panel.title, expr))
    assert empty == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", [name for name in BOARDS if name != "overview"])
async def test_a_board_shows_each_replica_by_itself(watched: Watched, name: str) -> None:
    instances = watched.play.targets()[name]
    assert len(instances) == {"ingester": 1, "backfiller": BACKFILLERS, "indexer": INDEXERS}[name]
    queries = [query.expr for row in BOARDS[name].rows for panel in row.panels for query in panel.queries]
    # one replica may have had nothing to do: it then has no durations, and no time of its last success
    for expr in (expr for expr in queries if "$instance" in expr and "quantile" not in expr and "> 0" not in expr):
        for instance in instances:
            chosen = expr.replace("$__rate_interval", RATE_OVER).replace("$instance", instance)
            assert await watched.watch.query(chosen), f"{instance}: {chosen}"


@pytest.mark.asyncio(loop_scope="module")
async def test_every_rule_is_well(watched: Watched) -> None:
    rules = await watched.watch.rules()
    assert len(rules) == sum(len(rules_of(path.stem)) for path in RULES.glob("*.yml"))
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_is_wrong_that_is_not_in_the_recording(watched: Watched) -> None:
    assert await watched.watch.firing() - IN_THE_RECORDING == {"Watchdog"}
    assert watched.watch.listener.names() - IN_THE_RECORDING == set()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_dead_mans_switch_is_called_again_and_again(watched: Watched) -> None:
    before = watched.watch.listener.signs_of_life
    await until(lambda: watched.watch.listener.signs_of_life > before + 1)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_replicas_do_is_added_up(watched: Watched) -> None:
    metrics = await watched.play.pipeline.metrics(["indexer"])
    done = await watched.watch.value("sum(indexer_events_processed_total)")
    assert done == metrics["indexer_events_processed_total"] > 500
    assert await watched.watch.value("count(indexer_events_processed_total > 0)") == INDEXERS


@pytest.mark.asyncio(loop_scope="module")
async def test_limits_are_shown_beside_what_was_measured(watched: Watched, tmp_path: Path) -> None:
    ended = await sluice(
        "thresholds", "--prometheus", watched.watch.prometheus, "--hours", "1", "--json", folder=tmp_path
    )
    found = {it["alert"]: it for it in ended.result["limits"]}
    reached = {name for name, it in found.items() if it["advice"].startswith("reached")}
    assert reached - IN_THE_RECORDING == set()
    assert (ended.code, ended.error) == (1 if reached else 0, "")
    assert set(found) == {it["alert"] for path in RULES.glob("*.yml") for it in rules_of(path.stem) if is_measured(it)}
    assert found["IndexerConsumerGroupLag"]["limit"] == 100_000
    assert 0 <= found["StreamNearHighWater"]["seen"]["highest"] < 1


def is_measured(rule: dict[str, Any]) -> bool:
    return "measure" in rule.get("annotations", {})


async def test_a_daemon_that_ends_is_told_of_and_what_follows_from_it_is_not() -> None:
    """First one of three, while the others go on; then all, so that the stream fills and the ingester waits."""
    settings = {"INGESTER_HIGH_WATER_MARK": str(MARK), "INGESTER_BATCH_SIZE": "10"}
    async with playing(RECORDING, pace=FRAMES_A_SECOND, settings=settings) as play, watching(play.targets()) as watch:
        here = Watched(play, watch)
        await until(lambda: _all_up(watch))
        play.begin()
        lost = await play.stop_indexer(1)
        await until(lambda: here.was_told_of("DaemonDown", instance=lost))
        assert (
            await watch.value("count(sluice_ready == 1)") == BACKFILLERS + INDEXERS
        )  # one indexer less, the ingester more
        for number in range(2, INDEXERS + 1):
            await play.stop_indexer(number)
        follows = {"IngesterBackpressure", "StreamNearHighWater"}
        await until(here.has_fired(follows), seconds=100)
        await until(here.is_held_back(follows))
        assert not follows & watch.listener.names()
        length = await play.stage.redis.xlen("firehose_live")
        assert length >= MARK
        assert await watch.value('stream:sluice_stream_length:max{stream="firehose_live"}') == length
