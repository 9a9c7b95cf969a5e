"""Where the ingester's parts meet: settings -> services."""

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from common.collection_filter import CollectionFilter
from common.daemon import run_daemon
from common.did_documents import is_resolvable
from common.errors import BadInput, CannotStart
from common.identity import Identities
from common.logs import log_as_json
from common.outbound import Outbound
from common.redis_connection import check_redis, open_redis
from common.repo_states import RepoStates
from common.settings import load
from common.stream_gauges import StreamGauges, watched
from common.streams import FIREHOSE_BACKFILL, FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL, REPO_BACKFILL_HIGH
from common.syntax import is_nsid
from common.telemetry import Health, serve_metrics
from ingester.admin import serve_admin
from ingester.controls import Controls, LiveFilter
from ingester.gaps import GapLedger
from ingester.known_repos import KnownRepos
from ingester.metrics import PROGRESS, Pressure, show_lengths
from ingester.repo_gauges import RepoGauges
from ingester.settings import MODES, Settings
from ingester.sources import Sources, Work
from ingester.subscription import websocket_client
from ingester.switches import Switch
from ingester.upstream import upstreams
from ingester.verification import Mode
from ingester.verified_reading import verified_reading

MOST_WORKERS = 64
WATCHED = (FIREHOSE_LIVE, FIREHOSE_BACKFILL, LABEL_LIVE, REPO_BACKFILL, REPO_BACKFILL_HIGH)


async def main(environ: Mapping[str, str] = os.environ) -> None:
    """Run until told to stop. Raises CannotStart."""
    settings = load(Settings, environ, prefix="INGESTER_")
    log_as_json(settings.log_level)
    work = work_of(settings)
    health = Health(PROGRESS)
    async with AsyncExitStack() as stack:
        stack.callback(serve_metrics(settings.metrics_port, health))
        redis = await stack.enter_async_context(open_redis(settings.redis_url))
        await check_redis(redis, disposable=settings.data_is_disposable)
        allowed = [
            *settings.outbound_allow,
            *(relay.origin for relay in (*work.listed, *work.firehoses, *work.host_lists)),
        ]
        states = RepoStates(redis)
        outbound = await stack.enter_async_context(Outbound(allow=allowed))
        filter = LiveFilter(work.is_wanted)
        workers = settings.workers if work.firehoses else 0
        reading = verified_reading(settings, redis, outbound, filter, workers=workers)
        sources = Sources(
            settings=settings,
            redis=redis,
            http=await stack.enter_async_context(websocket_client()),
            outbound=outbound,
            identities=Identities(outbound, settings.plc_url, capacity=1000),
            reading=await stack.enter_async_context(reading),
            pressure=Pressure(),
            ledger=GapLedger(redis),
            filter=filter,
            known=KnownRepos(states),
        )
        switches = [Switch(redis, source) for source in sources.of(work)]
        controls = Controls(redis, switches, sources.filter, partial(setattr, health, "remark"))
        admin = serve_admin(controls, settings.admin_host, settings.admin_port, settings.admin_token)
        await stack.enter_async_context(admin)
        gauges = StreamGauges(redis, watched(WATCHED), on_sample=show_lengths)
        repos = RepoGauges(states)
        watches = (health.beat, gauges.run, repos.run, sources.ledger.watch, controls.watch)
        await run_daemon(*watches, *(switch.run for switch in switches), grace_seconds=settings.grace_seconds)


def work_of(settings: Settings) -> Work:
    """Raises CannotStart for what the types of the settings cannot refuse."""
    if unknown := set(settings.modes or ("",)) - set(MODES):
        raise CannotStart(f"INGESTER_MODE: {', '.join(sorted(unknown))!r} is none of {', '.join(MODES)}")
    modes = set(MODES) if "all" in settings.modes else set(settings.modes)
    _check_verification(settings)
    if settings.listing_collection and not is_nsid(settings.listing_collection):
        raise CannotStart(f"INGESTER_LISTING_COLLECTION: {settings.listing_collection!r} is no collection")
    try:
        is_wanted = CollectionFilter(settings.collections)
    except BadInput as bad:
        raise CannotStart(f"INGESTER_COLLECTIONS: {bad.detail!r} is no collection") from bad
    relays = upstreams("INGESTER_RELAY_HOSTS", settings.relay_hosts)
    dids = tuple(name for name in settings.labeler_hosts if name.startswith("did:"))
    if odd := [did for did in dids if dids.count(did) > 1 or not is_resolvable(did)]:
        raise CannotStart(f"INGESTER_LABELER_HOSTS: {odd[0]!r} is there twice, or is no did:plc or did:web")
    labelers = upstreams("INGESTER_LABELER_HOSTS", tuple(it for it in settings.labeler_hosts if it not in dids))
    return Work(
        firehoses=relays if "firehose" in modes else (),
        listed=relays if "backfill" in modes else (),
        host_lists=upstreams("INGESTER_LIST_HOSTS_OF", settings.list_hosts_of) if "backfill" in modes else (),
        labelers=labelers if "labeler" in modes else (),
        labeler_dids=dids if "labeler" in modes else (),
        is_wanted=is_wanted,
    )


def _check_verification(settings: Settings) -> None:
    if settings.verify not in set(Mode):
        raise CannotStart(f"INGESTER_VERIFY: {settings.verify!r} is none of {', '.join(Mode)}")
    if settings.workers > MOST_WORKERS:
        raise CannotStart(f"INGESTER_WORKERS: {settings.workers} is more than {MOST_WORKERS}")
