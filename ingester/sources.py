"""Every source that the ingester reads, put together: where it is, how it is read, and where it goes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from aiohttp import ClientSession
from redis.asyncio import Redis

from common.backpressure import Room
from common.collection_filter import CollectionFilter
from common.daemon import Service
from common.events import EVENT_FIELD, JOB_FIELD, LABELS_FIELD
from common.identity import Identities
from common.outbound import Outbound
from common.repo_states import FrameWriter
from common.stream_gauges import HIGH_WATER
from common.streams import REPO_BACKFILL, StreamWriter
from ingester import label_frames
from ingester.accounts import FIREHOSE, LABELER, LISTING, Account, Source
from ingester.batching import BatchLimits
from ingester.connection import Reading
from ingester.controls import LiveFilter
from ingester.cursors import cursor_key, source_key
from ingester.dead_frames import Burial
from ingester.followed_labeler import FollowedLabeler
from ingester.gap_repair import REASON, GapRepair, comparison_key
from ingester.gap_watch import GapWatch
from ingester.gaps import GapLedger
from ingester.host_listing import HOSTS_DUE, HostListing
from ingester.intake import Intake, Verify
from ingester.known_repos import KnownRepos
from ingester.label_verification import LabelVerification
from ingester.metrics import HostMeter, Pressure
from ingester.pages import RepoPages
from ingester.pds_listing import PdsListings
from ingester.reading_ahead import PlainReader, ReadAhead
from ingester.relay_listing import RelayListing
from ingester.repo_listing import AreCurrent, Listed, RepoListing
from ingester.settings import Settings
from ingester.subscription import Subscription
from ingester.switches import HostSource
from ingester.upstream import Upstream
from ingester.writing import BatchWriter, ChainedWriter, PlainWriter

PDS_TRIES = 5
PDS_PAGE_SECONDS = 0.5  # a PDS answers 3000 requests in five minutes, and whoever fetches its repos needs most of them


@dataclass(frozen=True)
class Work:
    """What the mode and the hosts ask for."""

    firehoses: tuple[Upstream, ...]
    listed: tuple[Upstream, ...]
    host_lists: tuple[Upstream, ...]
    labelers: tuple[Upstream, ...]
    labeler_dids: tuple[str, ...]
    is_wanted: CollectionFilter


@dataclass(frozen=True)
class _Subscribed:
    """One kind of subscription: what it is called, how its frames are read and where they go."""

    source: Source
    lexicon: str
    reading: Reading
    field: str
    idle_seconds: float
    is_chained: bool
    verification: Callable[..., Verify] | None = None


@dataclass(frozen=True)
class _Called:
    """What stays of a source wherever it is read: its name, its cursor, its meter, and a labeler's DID."""

    name: str
    cursor_key: str
    meter: HostMeter
    did: str = ""


@dataclass(frozen=True)
class Sources:
    """What the sources share."""

    settings: Settings
    redis: Redis
    http: ClientSession
    outbound: Outbound
    reading: Reading
    pressure: Pressure
    ledger: GapLedger
    filter: LiveFilter
    identities: Identities
    known: KnownRepos

    def of(self, work: Work) -> Iterator[HostSource]:
        settings = self.settings
        repos = _Subscribed(
            FIREHOSE,
            "com.atproto.sync.subscribeRepos",
            self.reading,
            EVENT_FIELD,
            settings.idle_seconds,
            is_chained=True,
        )
        labels = _Subscribed(
            LABELER,
            "com.atproto.label.subscribeLabels",
            partial(ReadAhead, PlainReader(label_frames.events_of), None),
            LABELS_FIELD,
            settings.labeler_idle_seconds,
            is_chained=False,
            verification=self._label_verification if settings.verify_labels else None,
        )
        yield from (self._intake(repos, relay) for relay in work.firehoses)
        yield from (self._intake(labels, labeler) for labeler in work.labelers)
        yield from (self._followed(labels, did, number) for number, did in enumerate(work.labeler_dids, 1))
        yield from (self._relay_listing(relay) for relay in work.listed)
        yield from (self._host_listing(relay) for relay in work.host_lists)
        if work.host_lists:
            yield self._pds_listings()
        yield from (self._gap_repair(relay) for relay in work.firehoses if settings.compare_gaps)

    def _intake(self, what: _Subscribed, upstream: Upstream) -> HostSource:
        key, meter = cursor_key(what.source.stream, upstream.host), HostMeter(what.source.name, upstream.host)
        read = self._reading(what, upstream, _Called(upstream.host, key, meter), self.http)
        return HostSource(what.source.name, upstream.host, key, read, meter)

    def _followed(self, what: _Subscribed, did: str, number: int) -> HostSource:
        """No DID is the label of a metric."""
        label = f"by-did-{number}"
        key, meter = cursor_key(what.source.stream, did), HostMeter(what.source.name, label)
        called = _Called(did, key, meter, did)

        def read_at(home: Upstream) -> Service:
            return self._reading(what, home, called, self.outbound.websocket_client(home.http_url))

        account = Account(what.source)
        follow = FollowedLabeler(self.redis, self.identities, did, cursor_key=key, account=account, read_at=read_at)
        return HostSource(what.source.name, did, key, follow.run, meter, label)

    def _reading(self, what: _Subscribed, upstream: Upstream, called: _Called, http: ClientSession) -> Service:
        source, settings, account = what.source, self.settings, Account(what.source)
        subscription = Subscription(
            http,
            f"{upstream.websocket_url}/xrpc/{what.lexicon}",
            what.reading,
            idle_seconds=what.idle_seconds,
            account=account,
            meter=called.meter,
            gaps=GapWatch(self.ledger, source.name, called.name, seq_jump=settings.seq_jump),
            burial=Burial(self.redis, source.name, called.name),
        )
        return Intake(
            self.redis,
            subscription,
            self._writer(what, called.name),
            cursor_key=called.cursor_key,
            limits=BatchLimits(settings.batch_size, settings.batch_bytes, settings.batch_timeout_ms / 1000),
            account=account,
            meter=called.meter,
            verify=what.verification(upstream, account, called.did) if what.verification else None,
        ).run

    def _writer(self, what: _Subscribed, host: str) -> BatchWriter:
        stream, room = what.source.stream, self._room(what.source.stream)
        if not what.is_chained:
            return PlainWriter(StreamWriter(self.redis, stream, what.field, room))
        frames = FrameWriter(self.redis, stream, what.field, room, source_key=source_key(stream, host))
        return ChainedWriter(frames, host)

    def _label_verification(self, upstream: Upstream, account: Account, did: str) -> Verify:
        """All labelers share what is known of their DIDs."""
        return LabelVerification(self.identities, upstream, account, did).verified

    def _relay_listing(self, relay: Upstream) -> HostSource:
        key = cursor_key(REPO_BACKFILL, relay.host)
        listing = self._listing(
            relay.http_url,
            Listed(host=relay.host, key=key, are_current=self._are_current),
            self.settings.listing_collection,
        )
        repeat_seconds = self.settings.listing_repeat_hours * 3600
        service = RelayListing(self.redis, listing, key=key, repeat_seconds=repeat_seconds)
        return HostSource(LISTING.name, relay.host, key, service.run)

    @property
    def _are_current(self) -> AreCurrent:
        return self.known.are_whole if self.settings.listing_skips_whole else self.known.none

    def _host_listing(self, relay: Upstream) -> HostSource:
        key = f"ingester:hosts:cursor:{relay.host}"
        listing = HostListing(self.redis, self.outbound, relay.http_url, key=key, account=Account(LISTING))
        repeat_seconds = self.settings.listing_repeat_hours * 3600
        service = RelayListing(self.redis, listing, key=key, repeat_seconds=repeat_seconds)
        return HostSource("hosts", relay.host, key, service.run)

    def _pds_listings(self) -> HostSource:
        """Whoever is not vouched for is asked as the internet is: by https, at public addresses."""
        settings = self.settings

        def listing_of(host: str) -> RepoListing:
            listed = Listed(
                host=host,
                key=cursor_key(REPO_BACKFILL, host),
                are_current=self._are_current,
                tries=PDS_TRIES,
                most_rows=settings.pds_max_repos,
                page_seconds=PDS_PAGE_SECONDS,
            )
            scheme = "http" if host in settings.outbound_allow else "https"
            return self._listing(f"{scheme}://{host}", listed)

        repeat_seconds = settings.listing_repeat_hours * 3600
        listings = PdsListings(self.redis, listing_of, at_once=settings.pds_at_once, repeat_seconds=repeat_seconds)
        return HostSource("pds", "all", HOSTS_DUE, listings.run)

    def _gap_repair(self, relay: Upstream) -> HostSource:
        key = comparison_key(relay.host)
        comparison = self._listing(
            relay.http_url, Listed(host=relay.host, key=key, reason=REASON, are_current=self.known.are_seen)
        )
        return HostSource("comparison", relay.host, key, GapRepair(self.redis, self.ledger, relay.host, comparison).run)

    def _listing(self, http_url: str, listed: Listed, collection: str = "") -> RepoListing:
        room = self._room(REPO_BACKFILL)
        return RepoListing(
            self.redis,
            RepoPages(self.outbound, http_url, collection),
            listed,
            writer=StreamWriter(self.redis, REPO_BACKFILL, JOB_FIELD, room),
            room=room,
            account=Account(LISTING),
            ledger=self.ledger,
        )

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
