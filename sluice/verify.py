"""`sluice verify`: a running deployment from end to end, each step with what it found."""

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.errors import CannotStart
from common.redis_connection import open_redis
from common.settings import load
from indexer.names import Names
from indexer.settings import Settings
from sluice.check import Check
from sluice.connecting import connected
from sluice.contract import CONTRACT
from sluice.flow import DAEMONS, Flow
from sluice.prometheus import Prometheus
from sluice.targets import look
from sluice.verify_event import MarkedEvent
from sluice.verify_prometheus import of_prometheus

# what a pipeline at work has moved, whatever the network did; the others wait for troubles and rare events
ALWAYS_MOVING = {
    "ingester": ("ingester_firehose_events_total", "ingester_stream_events_total", "ingester_websocket_connections"),
    "indexer": ("indexer_events_processed_total", "indexer_create_events_total", "indexer_db_writes_total"),
}
MOVED_BY_THE_EVENT = ("indexer_events_processed_total", "indexer_create_events_total", "indexer_delete_events_total")
EVENT = "a marked event reaches Postgres"
PATIENCE = aiohttp.ClientTimeout(total=30)


@dataclass(frozen=True)
class Plan:
    """What to look at. No `prometheus` and not `event`: that is left out, and said so."""

    targets: Sequence[str]
    bound_seconds: float
    event: bool = True
    prometheus: str = ""
    dashboards: Path | None = None


async def run(environ: Mapping[str, str], plan: Plan, *, as_json: bool) -> int:
    """The answer: 0 if nothing failed, 1 otherwise. Raises CannotStart."""
    checks = []
    async for check in _checks(environ, plan):
        checks.append(check)
        if not as_json:
            sys.stdout.write(f"{check.outcome}  {check.name}: {check.detail}\n")
            sys.stdout.flush()
    report = json.dumps({"checks": [asdict(check) for check in checks]}) + "\n" if as_json else _summary(checks)
    sys.stdout.write(report)
    return 1 if any(check.outcome == "FAIL" for check in checks) else 0


async def _checks(environ: Mapping[str, str], plan: Plan) -> AsyncIterator[Check]:
    async with aiohttp.ClientSession(timeout=PATIENCE) as http:
        before = await look(http, plan.targets)
        for check in (*of_daemons(before), *of_contract(before)):
            yield check
        if plan.event:
            async for check in _of_event(environ, plan, http, before):
                yield check
        else:
            yield Check.skipped(EVENT, "--no-event")
        if plan.prometheus:
            for check in await of_prometheus(Prometheus(http, plan.prometheus), plan.dashboards):
                yield check
        else:
            yield Check.skipped("prometheus, its rules and the dashboards", "no --prometheus URL")


def of_daemons(flow: Flow) -> Iterator[Check]:
    kinds = Counter(daemon.kind for daemon in flow.daemons if daemon.is_up)
    ill = [f"{daemon.address} {daemon.complaint}" for daemon in flow.daemons if daemon.complaint]
    found = ", ".join(f"{kinds[kind]} {kind}" for kind in DAEMONS if kinds[kind])
    yield Check.of("every target answers and is ready", not ill, "; ".join(ill) or found)
    missing = [kind for kind in ALWAYS_MOVING if not kinds[kind]]
    yield Check.of(
        "the daemons that every deployment has run", not missing, f"no {', no '.join(missing)}" if missing else found
    )


def of_contract(flow: Flow) -> Iterator[Check]:
    running = {daemon.kind for daemon in flow.daemons if daemon.is_up}
    for kind in (kind for kind in DAEMONS if kind in running):
        daemons = [daemon for daemon in flow.daemons if daemon.kind == kind]
        missing = sorted({name for daemon in daemons for name in CONTRACT[kind] if name not in daemon.samples})
        names = len(CONTRACT[kind])
        yield Check.of(
            f"the {kind} exports every metric of the contract", not missing, ", ".join(missing) or f"{names} names"
        )
        still = [name for name in ALWAYS_MOVING.get(kind, ()) if not flow.total(name)]
        moved = sum(1 for name in CONTRACT[kind] if flow.total(name))
        yield Check.of(
            f"the {kind} moves",
            not still,
            f"0 since its start: {', '.join(still)}" if still else f"{moved} of {names} have moved since its start",
        )


async def _of_event(
    environ: Mapping[str, str], plan: Plan, http: aiohttp.ClientSession, before: Flow
) -> AsyncIterator[Check]:
    settings = load(Settings, environ, prefix="INDEXER_")
    try:
        async with connected(settings.database_url) as connection, open_redis(settings.redis_url) as redis:
            yield await _journey(redis, connection, Names(settings.database_schema), plan.bound_seconds)
    except CannotStart as refusal:
        yield Check.failed(EVENT, str(refusal))
        return
    except (OSError, RedisError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        yield Check.failed(EVENT, f"{str(error) or type(error).__name__}; check REDIS_URL and DATABASE_SCHEMA")
        return
    after = await look(http, plan.targets)
    still = [metric for metric in MOVED_BY_THE_EVENT if after.total(metric) <= before.total(metric)]
    yield Check.of("the metrics saw it", not still, ", ".join(still) or "events, creates and deletes have risen")


async def _journey(redis: Redis, connection: asyncpg.Connection, names: Names, bound_seconds: float) -> Check:
    journey = await MarkedEvent(redis, connection, names).travel(bound_seconds)
    if journey.written is None:
        return Check.failed(
            EVENT, f"not within {bound_seconds:.0f} s; is an indexer reading firehose_live, or is it far behind?"
        )
    if journey.removed is None:
        return Check.failed(
            EVENT, f"after {journey.written:.2f} s, but its delete did not within {bound_seconds:.0f} s"
        )
    return Check.of(
        EVENT, True, f"after {journey.written:.2f} s, gone {journey.removed:.2f} s after its delete, no trace left"
    )


def _summary(checks: Sequence[Check]) -> str:
    found = Counter(check.outcome for check in checks)
    return f"{found['pass']} passed, {found['FAIL']} failed, {found['skip']} skipped\n"
