"""repo_backfill entry -> snapshot -> its events on the output -> ack; many jobs at once, none waiting for another."""

import asyncio
import logging
import time
from datetime import UTC, datetime

from backfiller import metrics
from backfiller.ledger import Entry, Ledger, fingerprint, is_current
from backfiller.outcomes import (
    BAD_ENTRY,
    CURRENT,
    DEFERRED,
    DONE,
    Buried,
    Finished,
    Outcome,
    Parked,
    Retries,
    after,
    deadly,
)
from backfiller.parking import Parking
from backfiller.publishing import Publisher
from backfiller.repos import Repos
from backfiller.settlements import Settlements
from backfiller.spool import Spools
from backfiller.suspects import Suspects
from common.backpressure import Room
from common.delivery import Delivery
from common.errors import BadInput, GiveUp, TryLater
from common.events import RepoJob, decode_job, encode_event
from common.streams import StreamConsumer
from common.syntax import is_did, is_tid, utc_text

log = logging.getLogger(__name__)


class Backfiller:
    """Takes jobs of one stream in hand, up to `jobs_in_hand`, as fast as others are out of hand."""

    def __init__(
        self,
        consumer: StreamConsumer,
        *,
        parking: Parking,
        ledger: Ledger,
        settlements: Settlements,
        repos: Repos,
        room: Room,
        publisher: Publisher,
        spools: Spools,
        suspects: Suspects,
        retries: Retries,
        jobs_in_hand: int,
    ) -> None:
        self.consumer = consumer
        self.parking = parking
        self._ledger = ledger
        self._settlements = settlements
        self.jobs_in_hand = jobs_in_hand
        self._repos = repos
        self._room = room
        self._publisher = publisher
        self._spools = spools
        self._suspects = suspects
        self._retries = retries
        self._seats = asyncio.Semaphore(jobs_in_hand)

    async def run(self, stop: asyncio.Event) -> None:
        """Service. Told to stop, it starts no more repos and finishes those in hand."""
        async with asyncio.TaskGroup() as jobs:
            async for deliveries in self.consumer.batches(stop):
                for delivery in deliveries:
                    await self._seats.acquire()
                    if not (await self._room.wait(stop) and await self.parking.wait(stop)) or stop.is_set():
                        break
                    jobs.create_task(self._work(delivery, stop)).add_done_callback(lambda _: self._seats.release())

    async def _work(self, delivery: Delivery, stop: asyncio.Event) -> None:
        if not delivery.fields:
            log.error("an entry was deleted before it was finished", extra={"entry": delivery.id.decode()})
            metrics.OUTCOMES.labels(metrics.LOST).inc()
            await self.consumer.ack([delivery], stop)
            return
        try:
            job = job_of(delivery)
        except BadInput as error:
            await self._bury_bad_entry(delivery, error, stop)
            return
        with metrics.RUNNING.track_inprogress():
            started = time.monotonic()
            async with self._suspects.begun(delivery, stop) as ended:
                outcome = deadly(job, ended, now()) if ended else await self._attempt(job, stop)
            end = await self._settle(delivery, job.did, outcome, stop)
            metrics.REPO_SECONDS.labels(end).observe(time.monotonic() - started)

    async def _attempt(self, job: RepoJob, stop: asyncio.Event) -> Outcome | None:
        """None if told to stop before everything was on the output."""
        known = await self._ledger.known(job.did, stop)
        if is_current(known, job.rev, self._repos.collections):
            return Finished(CURRENT)
        try:
            with self._spools.open() as spool:
                snapshot = await self._repos.snapshot(
                    job.did, spool, refresh=job.attempts > 0, oldest=oldest_rev(job, known)
                )
                if not await self._publisher.publish(snapshot, stop):
                    return None
        except (TryLater, BadInput, GiveUp) as error:
            return after(error, job, self._retries, now())
        metrics.unpacked(snapshot.records, snapshot.unreadable)
        emitted = snapshot.records - snapshot.unreadable
        return Finished(DONE, snapshot.rev, emitted, snapshot.filtered, snapshot.unreadable)

    async def _settle(self, delivery: Delivery, did: str, outcome: Outcome | None, stop: asyncio.Event) -> str:
        """How it ended, in the words of metrics.ENDS."""
        match outcome:
            case None:
                self.consumer.release([delivery])
                return "stopped"
            case Finished(name):
                if name == CURRENT:
                    await self.consumer.ack([delivery], stop)
                else:
                    note = fingerprint(self._repos.collections)
                    await self._settlements.finish(delivery, did, outcome, note, stop)
                metrics.finished(name)
                return name if name in metrics.ENDS else "absent"
            case Parked(job, reason, seconds):
                await self.parking.park(delivery, encode_event(job), seconds, stop)
                metrics.parked(reason, deferred=reason in DEFERRED)
                return "parked"
            case Buried():
                await self._bury(delivery, outcome, stop)
                return "buried"

    async def _bury(self, delivery: Delivery, buried: Buried, stop: asyncio.Event) -> None:
        log.warning("gave up a repo", extra={"did": buried.job.did, "reason": buried.reason, "error": buried.detail})
        fields: dict[str, str | bytes] = {
            "repo": encode_event(buried.job),
            "reason": buried.reason,
            "attempts": str(buried.job.attempts),
            "error": buried.error,
            "detail": buried.detail,
        }
        await self._settlements.bury(delivery, buried.job.did, fields, stop)
        metrics.failed(buried.error)
        metrics.DEAD_LETTERED.inc()

    async def _bury_bad_entry(self, delivery: Delivery, error: BadInput, stop: asyncio.Event) -> None:
        log.warning("an entry that is no job", extra={"entry": delivery.id.decode(), "error": str(error)[:200]})
        fields: dict[str, str | bytes] = {name.decode(errors="replace"): text for name, text in delivery.fields.items()}
        fields |= {"reason": BAD_ENTRY, "attempts": "0", "detail": str(error)[:500]}
        fields.setdefault("repo", b"")
        await self._settlements.bury(delivery, "", fields, stop)
        metrics.DEAD_LETTERED.inc()


def now() -> str:
    return utc_text(datetime.now(UTC))


def job_of(delivery: Delivery) -> RepoJob:
    """Raises BadInput("bad_entry")."""
    job = decode_job(delivery.payload or b"")
    if not is_did(job.did):
        raise BadInput(BAD_ENTRY, f"{job.did[:80]} is no DID")
    return job


def oldest_rev(job: RepoJob, known: Entry | None) -> str:
    """The newest rev that the repo is known to have had."""
    return max(job.rev if is_tid(job.rev) else "", known.rev if known else "")
