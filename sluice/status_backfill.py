"""`sluice status backfill`: the queue, what became of the repos, and the hosts they are on: who has how many left."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from redis.asyncio import Redis
from rich.table import Table

from backfiller.ledger import Ledger
from backfiller.parking import parked_key
from backfiller.permits import Permits
from backfiller.settings import Settings
from common.errors import BadInput
from common.events import JOB_FIELD, decode_job
from sluice.backfill_commands import told
from sluice.connecting import backfiller_redis
from sluice.process_exit import ended_by
from sluice.tables import plain_table, standard_output

SAMPLE = 5_000
NOT_LOOKED_UP = "not looked up yet"


@dataclass(frozen=True)
class HostPlan:
    """What is left to do at one PDS. `state`: paced, at rest, or down. The numbers are estimates from a sample."""

    host: str
    jobs: int
    requests_per_second: float
    requests_left: int | None
    state: str
    eta_seconds: float | None


@dataclass(frozen=True)
class BackfillStatus:
    waiting: dict[str, int]
    parked: int
    rechecks: int
    dead_letters: int
    output: int
    outcomes: dict[str, int]
    hosts: list[HostPlan]


def status_backfill(
    dids: Annotated[list[str] | None, typer.Argument(metavar="DID", help="What became of these.")] = None,
    hosts: Annotated[int, typer.Option(min=0, help="Show so many hosts, those with most repos first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Show the queue of the backfillers, the outcomes so far, and the plan by host; or what became of these repos.

    Hosts and their shares are estimated from a sample of the queue. Configured as the backfiller is: REDIS_URL.
    Ends with 0, with 1 if one of the DIDs is unknown, with 2 if it cannot start.
    """
    ended_by(_status_of(dids, as_json=as_json) if dids else _status(hosts, as_json=as_json))


async def _status(shown: int, *, as_json: bool) -> int:
    async with backfiller_redis() as (redis, settings):
        status = await backfill_status(redis, settings)
    if as_json:
        sys.stdout.write(json.dumps(asdict(status)) + "\n")
    else:
        _print(status, shown)
    return 0


async def _status_of(dids: Sequence[str], *, as_json: bool) -> int:
    async with backfiller_redis() as (redis, settings):
        entries = await Ledger(redis, settings.backfill_stream).known_of(dids)
    if as_json:
        known = {did: entry and asdict(entry) for did, entry in zip(dids, entries, strict=True)}
        sys.stdout.write(json.dumps(known) + "\n")
    else:
        for did, entry in zip(dids, entries, strict=True):
            sys.stdout.write(f"{did}  {told(entry) if entry else 'not known: never asked for, or still waiting'}\n")
    return 0 if all(entries) else 1


async def backfill_status(redis: Redis, settings: Settings) -> BackfillStatus:
    ledger = Ledger(redis, settings.backfill_stream)
    inputs = (settings.high_stream, settings.backfill_stream)
    async with redis.pipeline(transaction=False) as pipe:
        for stream in (*inputs, settings.dlq_stream, settings.firehose_stream):
            pipe.xlen(stream)
        for stream in inputs:
            pipe.zcard(parked_key(stream))
        pipe.zcard(ledger.recheck_key)
        *lengths, dead, output, parked_high, parked, rechecks = await pipe.execute()
    return BackfillStatus(
        waiting=dict(zip(inputs, lengths, strict=True)),
        parked=parked_high + parked,
        rechecks=rechecks,
        dead_letters=dead,
        output=output,
        outcomes=await ledger.counts(),
        hosts=await _plan(redis, settings, sum(lengths) + parked_high + parked),
    )


async def _plan(redis: Redis, settings: Settings, jobs: int) -> list[HostPlan]:
    dids = await _sampled(redis, settings)
    if not dids:
        return []
    hosts = await redis.mget([f"did:pds:{did}" for did in dids])
    counts = Counter(host.decode() if isinstance(host, bytes) else NOT_LOOKED_UP for host in hosts)
    permits = Permits(redis, settings.backfill_stream, requests_per_second=settings.host_requests_per_second)
    plans = []
    for host, count in counts.most_common():
        estimate = max(round(count * jobs / len(dids)), 1)
        look = None if host == NOT_LOOKED_UP else await permits.look(host)
        plans.append(
            HostPlan(
                host,
                estimate,
                round(look.requests_per_second, 2) if look else 0.0,
                look.requests_left if look else None,
                look.state if look else "",
                look.wait_seconds + estimate * look.seconds_each(settings.host_concurrency) if look else None,
            )
        )
    return plans


async def _sampled(redis: Redis, settings: Settings) -> list[str]:
    """DIDs of waiting jobs: the next ones of each stream, and any that are parked."""
    payloads: list[Any] = []
    for stream in (settings.high_stream, settings.backfill_stream):
        entries: Any = await redis.xrange(stream, count=SAMPLE)
        payloads += [fields.get(JOB_FIELD.encode(), b"") for _, fields in entries]
        payloads += await redis.zrange(parked_key(stream), 0, SAMPLE - 1)
    dids = []
    for payload in payloads:
        try:
            dids.append(decode_job(payload).did)
        except BadInput:
            continue
    return dids


def _print(status: BackfillStatus, shown: int) -> None:
    console = standard_output()
    queue = plain_table("queue", "#jobs")
    waiting = {**status.waiting, "parked until their next try": status.parked, "dead letters": status.dead_letters}
    for name, number in {**waiting, "looked at again in time": status.rechecks}.items():
        queue.add_row(name, f"{number:,}")
    queue.add_row("records not yet indexed", f"{status.output:,}")
    console.print(queue)
    if status.outcomes:
        outcomes = plain_table("outcome", "#repos")
        for name, number in sorted(status.outcomes.items(), key=lambda item: -item[1]):
            outcomes.add_row(name, f"{number:,}")
        console.print(outcomes)
    if status.hosts[:shown]:
        console.print(_hosts(status.hosts[:shown]))


def _hosts(plans: Sequence[HostPlan]) -> Table:
    table = plain_table("host", "#repos left", "#a second", "#requests left", "state", "#done in")
    for plan in plans:
        left = "" if plan.requests_left is None else f"{plan.requests_left:,}"
        eta = "" if plan.eta_seconds is None else _duration(plan.eta_seconds)
        table.add_row(plan.host, f"{plan.jobs:,}", f"{plan.requests_per_second:g}", left, plan.state, eta)
    return table


def _duration(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
