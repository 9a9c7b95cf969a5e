"""Where the ingester's parts meet: settings -> services."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from redis.asyncio import Redis

from common.backpressure import Room
from common.collection_filter import CollectionFilter
from common.daemon import Service, run_daemon
from common.errors import BadInput, CannotStart
from common.events import EVENT_FIELD, JOB_FIELD, LABELS_FIELD
from common.identity import Identities
from common.logs import log_as_json
from common.outbound import USER_AGENT, Outbound
from common.redis_connection import check_redis, open_redis
from common.settings import load
from common.stream_gauges import HIGH_WATER, StreamGauges, watched
from common.streams import REPO_BACKFILL, StreamWriter
from common.telemetry import Health, serve_metrics
from ingester import frames, label_frames
from ingester.accounts import FIREHOSE, LABELER, LISTING, Account, Source
from ingester.batching import BatchLimits
from ingester.connection import ReadFrame
from ingester.cursors import cursor_key
from ingester.intake import Intake, Verify
from ingester.label_verification import LabelVerification
from ingester.metrics import LENGTHS, PROGRESS, HostMeter, Listings, Pressure, show_lengths
from ingester.repo_listing import RepoListing
from ingester.settings import MODES, Settings
from ingester.subscription import Subscription
from ingester.upstream import Upstream, upstreams


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
        allowed = [*settings.outbound_allow, *(relay.origin for relay in work.listed)]
        parts = _Parts(
            settings=settings,
            redis=redis,
            http=await stack.enter_async_context(_websocket_client()),
            outbound=await stack.enter_async_context(Outbound(allow=allowed)),
            pressure=Pressure(),
        )
        gauges = StreamGauges(redis, watched(tuple(LENGTHS)), on_sample=show_lengths)
        await run_daemon(health.beat, gauges.run, *parts.services(work), grace_seconds=settings.grace_seconds)


@dataclass(frozen=True)
class Work:
    """What the mode and the hosts ask for."""

    firehoses: tuple[Upstream, ...]
    listed: tuple[Upstream, ...]
    labelers: tuple[Upstream, ...]
    is_wanted: CollectionFilter


def work_of(settings: Settings) -> Work:
    """Raises CannotStart for what the types of the settings cannot refuse."""
    if unknown := set(settings.modes or ("",)) - set(MODES):
        raise CannotStart(f"INGESTER_MODE: {', '.join(sorted(unknown))!r} is none of {', '.join(MODES)}")
    modes = set(MODES) if "all" in settings.modes else set(settings.modes)
    if not 0.2 <= settings.memory_share <= 1:
        raise CannotStart(f"INGESTER_MEMORY_SHARE: {settings.memory_share} is not from 0.2 to 1")
    if not (settings.idle_seconds > 0 and settings.labeler_idle_seconds > 0):
        raise CannotStart("INGESTER_IDLE_SECONDS and INGESTER_LABELER_IDLE_SECONDS must be above 0")
    try:
        is_wanted = CollectionFilter(settings.collections)
    except BadInput as bad:
        raise CannotStart(f"INGESTER_COLLECTIONS: {bad.detail!r} is no collection") from bad
    relays = upstreams("INGESTER_RELAY_HOSTS", settings.relay_hosts)
    labelers = upstreams("INGESTER_LABELER_HOSTS", settings.labeler_hosts)
    return Work(
        firehoses=relays if "firehose" in modes else (),
        listed=relays if "backfill" in modes else (),
        labelers=labelers if "labeler" in modes else (),
        is_wanted=is_wanted,
    )


@dataclass(frozen=True)
class _Subscribed:
    """One kind of subscription: what it is called, how its frames are read and where they go."""

    source: Source
    lexicon: str
    read_frame: ReadFrame
    field: str
    idle_seconds: float
    verification: Callable[[Upstream, Account], Verify] | None = None


@dataclass(frozen=True)
class _Parts:
    """What the services share."""

    settings: Settings
    redis: Redis
    http: ClientSession
    outbound: Outbound
    pressure: Pressure

    def services(self, work: Work) -> Iterator[Service]:
        settings = self.settings
        repos = _Subscribed(
            FIREHOSE,
            "com.atproto.sync.subscribeRepos",
            partial(frames.events_of, is_wanted=work.is_wanted),
            EVENT_FIELD,
            settings.idle_seconds,
        )
        labels = _Subscribed(
            LABELER,
            "com.atproto.label.subscribeLabels",
            label_frames.events_of,
            LABELS_FIELD,
            settings.labeler_idle_seconds,
            self._label_verification() if settings.verify_labels else None,
        )
        yield from (self._intake(repos, relay) for relay in work.firehoses)
        yield from (self._intake(labels, labeler) for labeler in work.labelers)
        listings = Listings(len(work.listed))
        yield from (self._listing(relay, listings) for relay in work.listed)

    def _intake(self, what: _Subscribed, upstream: Upstream) -> Service:
        source, settings = what.source, self.settings
        account, meter = Account(source), HostMeter(source.name, upstream.host)
        subscription = Subscription(
            self.http,
            f"{upstream.websocket_url}/xrpc/{what.lexicon}",
            what.read_frame,
            idle_seconds=what.idle_seconds,
            account=account,
            meter=meter,
        )
        return Intake(
            self.redis,
            subscription,
            StreamWriter(self.redis, source.stream, what.field, self._room(source.stream)),
            cursor_key=cursor_key(source.stream, upstream),
            limits=BatchLimits(settings.batch_size, settings.batch_bytes, settings.batch_timeout_ms / 1000),
            account=account,
            meter=meter,
            verify=what.verification(upstream, account) if what.verification else None,
        ).run

    def _label_verification(self) -> Callable[[Upstream, Account], Verify]:
        """All labelers share what is known of their DIDs."""
        identities = Identities(self.outbound, self.settings.plc_url, capacity=1000)
        return lambda upstream, account: LabelVerification(identities, upstream, account).verified

    def _listing(self, relay: Upstream, listings: Listings) -> Service:
        room = self._room(REPO_BACKFILL)
        writer = StreamWriter(self.redis, REPO_BACKFILL, JOB_FIELD, room)
        account = Account(LISTING)
        return RepoListing(
            self.redis, self.outbound, relay, writer=writer, room=room, account=account, listings=listings
        ).run

    def _room(self, stream: str) -> Room:
        """Each writer has its own, for each waits for itself."""
        HIGH_WATER.labels(stream).set(self.settings.high_water_mark)
        return Room(
            self.redis,
            stream,
            self.settings.high_water_mark,
            memory_share=self.settings.memory_share,
            on_pressure=self.pressure.of_writer(),
        )


def _websocket_client() -> ClientSession:
    return ClientSession(
        timeout=ClientTimeout(total=None),
        cookie_jar=DummyCookieJar(),
        headers={"User-Agent": USER_AGENT},
        trust_env=False,
    )
