"""What becomes of a job: finished, parked until its next try, or buried. Decided here, done in worker.py."""

from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from backfiller.download import ABSENT, REST_SECONDS
from common.errors import BadInput, GiveUp, TryLater
from common.events import RepoJob
from common.outbound import BAD_REASONS, LATER_REASONS
from common.retry import jittered

DONE, CURRENT = "done", "current"
MAX_HISTORY = 10
FINISHED = (DONE, CURRENT, *ABSENT.values(), "did_not_found", "did_tombstoned", "did_unsupported")
# nobody's fault, so they use up no try
DEFERRED = ("rate_limited", "host_busy", "host_paced", "host_at_rest", "host_down", "disk_full")
FETCHING = ("bad_did_document", "no_pds", "no_key", "refused", "host_dead", *LATER_REASONS, *BAD_REASONS)
PROCESS_DIED = "process_died"
PARSING = (PROCESS_DIED, "truncated_car", "incomplete_repo", "bad_car", "bad_block_hash", "bad_commit", "bad_mst")
VERIFYING = ("wrong_did", "bad_signature", "future_rev", "stale_repo")
FAILURES = tuple(reason for reason in (*FETCHING, *PARSING, *VERIFYING) if reason not in DEFERRED)
MAX_RETRIES_EXCEEDED, TOO_LARGE, BAD_ENTRY = "max_retries_exceeded", "too_large", "bad_entry"


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing more to do. `outcome` is one of FINISHED; CURRENT changes nothing of what is known of the repo.

    Of a repo that is done: the records on the output, those of other collections, and those that are no JSON.
    """

    outcome: str
    rev: str = ""
    emitted: int = 0
    filtered: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Parked:
    """To be tried again after `seconds`. `reason` is one of DEFERRED, or of FAILURES if a try was used up."""

    job: RepoJob
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Buried:
    """`reason` goes with it to the dead letters; `error` is the last of FAILURES, `detail` is for a person."""

    job: RepoJob
    reason: str
    error: str
    detail: str


Outcome = Finished | Parked | Buried


@dataclass(frozen=True, slots=True)
class Retries:
    """`most` failed tries; the wait before the next one is random up to a ceiling that doubles each time."""

    most: int
    first_seconds: float
    most_seconds: float


def after(error: TryLater | BadInput | GiveUp, job: RepoJob, retries: Retries, now: str) -> Outcome:
    """What an attempt that ended with this error, at `now`, leads to. A job remembers its last MAX_HISTORY failures."""
    if isinstance(error, GiveUp) and error.reason in FINISHED:
        return Finished(error.reason)
    asked = error.seconds if isinstance(error, TryLater) else None
    if error.reason in DEFERRED:
        return Parked(job, error.reason, REST_SECONDS if asked is None else asked)
    job = _failed(job, error.reason, now)
    if error.reason == TOO_LARGE or job.attempts >= retries.most:
        reason = TOO_LARGE if error.reason == TOO_LARGE else MAX_RETRIES_EXCEEDED
        return Buried(job, reason, error.reason, str(error)[:500])
    wait = jittered(job.attempts, retries.first_seconds, retries.most_seconds)
    return Parked(job, error.reason, max(wait, asked or 0.0))


def deadly(job: RepoJob, ended: int, now: str) -> Buried:
    """Of a job that was in hand each of the `ended` times that the process ended."""
    detail = f"the backfiller ended {ended} times while it had this repo in hand"
    return Buried(_failed(job, PROCESS_DIED, now), PROCESS_DIED, PROCESS_DIED, detail)


def _failed(job: RepoJob, reason: str, now: str) -> RepoJob:
    earlier = () if job.history is UNSET else job.history
    return msgspec.structs.replace(job, attempts=job.attempts + 1, history=(*earlier, f"{now} {reason}")[-MAX_HISTORY:])
