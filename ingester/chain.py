"""What a frame says of its repo, as a step of the repo's chain; and what the verdicts on steps mean for the account."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from common import chain
from common.chain import Frame
from common.events import AccountEvent, IdentityEvent, encode_event
from common.syntax import FUTURE_SECONDS
from ingester.framing import FrameResult

RESULTS = {
    chain.ADVANCED: "advanced",
    chain.SAME_ROOT: "same_root",
    chain.ADOPTED: "adopted",
    chain.COVERED: "covered",
    chain.WAITING: "waiting",
    chain.TOLD: "told",
    chain.REPLAYED: "replayed",
    chain.DESYNCHRONISED: "desynchronised",
    chain.STILL_DESYNCHRONISED: "still_desynchronised",
    chain.DUPLICATE: "duplicate",
    chain.INACTIVE: "inactive",
    chain.FIRST_INACTIVE: "inactive",
}
DROPPED_AS = {
    chain.DUPLICATE: "duplicate",
    chain.INACTIVE: "inactive_account",
    chain.FIRST_INACTIVE: "inactive_account",
}
BROKEN_CHAIN, SYNC, UNVERIFIED = "broken_chain", "sync", "unverified"
REACTIVATED, ACCOUNT, CAME_INACTIVE = "reactivated", "account_desynchronised", "inactive"
QUEUED_FOR = (BROKEN_CHAIN, SYNC, UNVERIFIED, REACTIVATED, ACCOUNT, CAME_INACTIVE)


class Told(Struct, frozen=True):
    """A frame on its way to the stream. `reason`: why its repo is out of step, should the verdict be that it is."""

    frame: Frame
    units: int
    seq: int
    time: str
    reason: str = ""


class Judged(Struct, frozen=True):
    """What the verdicts on a batch come to: units dropped by reason, frames by result, repos queued by reason."""

    dropped: Counter[str]
    results: Counter[str]
    queued: Counter[str]


def told(result: FrameResult, units: int, host: str) -> Told:
    """`host` is the canonical name of who said it."""
    payloads = [encode_event(event) for event in result.events]
    step, reason = _step(result, host, len(payloads))
    return Told(Frame(step, payloads), units, result.seq, result.time, reason)


def judged(batch: Sequence[Told], verdicts: str) -> Judged:
    """One verdict for each frame of the batch."""
    dropped, results, queued = Counter[str](), Counter[str](), Counter[str]()
    for frame, verdict in zip(batch, verdicts, strict=True):
        if verdict == chain.NO_VERDICT:
            continue
        results[RESULTS[verdict]] += 1
        if reason := DROPPED_AS.get(verdict):
            dropped[reason] += frame.units
        if verdict == chain.DESYNCHRONISED:
            queued[frame.reason] += 1
        elif verdict == chain.FIRST_INACTIVE:
            queued[CAME_INACTIVE] += 1
    return Judged(dropped, results, queued)


def _step(result: FrameResult, host: str, payloads: int) -> tuple[bytes, str]:
    """The step, and the reason that goes with it."""
    link, (did, reason) = result.link, result.desync or ("", "")
    if link is None and did:
        return chain.loss_step(result.seq, did, result.refused_rev, reason, payloads=payloads), UNVERIFIED
    if link is not None and link.is_sync:
        return chain.sync_step(result.seq, link.did, link.rev, link.data, payloads=payloads), SYNC
    if link is not None:
        step = chain.commit_step(
            result.seq,
            link.did,
            link.rev,
            link.data,
            since=link.since,
            prev_data=link.prev_data,
            flaw=reason,
            payloads=payloads,
        )
        return step, UNVERIFIED if reason else BROKEN_CHAIN
    match result.events:
        case (AccountEvent() | IdentityEvent() as event,):
            return _told_step(event, host)
    return chain.no_step(payloads), ""


def _told_step(event: AccountEvent | IdentityEvent, host: str) -> tuple[bytes, str]:
    moment = datetime.fromisoformat(event.time)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    latest = datetime.now(UTC) + timedelta(seconds=FUTURE_SECONDS)  # one from beyond would make all others look old
    microseconds = int(min(moment, latest).timestamp() * 1e6)
    if isinstance(event, IdentityEvent):
        mark = chain.told_mark(host, max(0, microseconds), (event.handle or "").encode())
        return chain.told_step(b"i", event.seq, event.did, mark, b"=", payloads=1), ""
    content = f"{event.active} {event.status}".encode()
    mark = chain.told_mark(host, max(0, microseconds), content)
    says, reason = _says(event)
    return chain.told_step(b"a", event.seq, event.did, mark, says, payloads=1), reason


def _says(event: AccountEvent) -> tuple[bytes, str]:
    """Only an account that is not active is gated; what is the sender's own trouble says nothing of it (spec: account).

    A host that throttles an account leaves gaps in its chain, which then shows them.
    """
    status = (event.status or "").lower()
    if status == "desynchronized":
        return b"!", ACCOUNT
    if status == "throttled":
        return b"=", ""
    return (b"+", REACTIVATED) if event.active else (b"-", "")
