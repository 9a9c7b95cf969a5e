"""What becomes of a job, decided without doing it; and that the closed lists of reasons are closed."""

import pytest

from backfiller import metrics, outcomes
from backfiller.outcomes import MAX_HISTORY, Buried, Finished, Parked, Retries, after
from common.errors import BadInput, GiveUp, TryLater
from common.events import RepoJob
from common.outbound import Refused

JOB = RepoJob(did="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", rev="3kq", attempts=1)
NOW = "2026-11-20T00:00:00.000Z"
RETRIES = Retries(most=3, first_seconds=1.0, most_seconds=30.0)


@pytest.mark.parametrize("reason", outcomes.FINISHED[1:])
def test_what_is_not_to_be_had_is_finished(reason: str) -> None:
    assert after(GiveUp(reason), JOB, RETRIES, NOW) == Finished(reason)


@pytest.mark.parametrize("reason", outcomes.DEFERRED)
def test_what_is_nobodys_fault_uses_up_no_try(reason: str) -> None:
    last = RepoJob(did=JOB.did, attempts=2)
    assert after(TryLater(reason, seconds=7.0), last, RETRIES, NOW) == Parked(last, reason, 7.0)
    assert after(TryLater(reason), last, RETRIES, NOW) == Parked(last, reason, 30.0)


@pytest.mark.parametrize("error", [TryLater("timeout"), BadInput("bad_mst"), Refused(403, "", "")])
def test_a_failure_counts_and_the_last_one_buries(error: TryLater | BadInput | GiveUp) -> None:
    line = f"{NOW} {error.reason}"
    again = after(error, JOB, RETRIES, NOW)
    assert isinstance(again, Parked)
    assert again.job == RepoJob(did=JOB.did, rev="3kq", attempts=2, history=(line,))
    assert again.reason == error.reason
    assert 0.0 <= again.seconds <= 2.0
    last = RepoJob(did=JOB.did, rev="3kq", attempts=3, history=(line, line))
    assert after(error, again.job, RETRIES, NOW) == Buried(last, "max_retries_exceeded", error.reason, str(error))


def test_a_job_remembers_its_last_failures() -> None:
    many, job = Retries(most=99, first_seconds=1.0, most_seconds=1.0), RepoJob(did=JOB.did)
    for number in range(MAX_HISTORY + 3):
        parked = after(TryLater("timeout"), job, many, f"time {number}")
        assert isinstance(parked, Parked)
        job = parked.job
    assert job.history == tuple(f"time {number} timeout" for number in range(3, MAX_HISTORY + 3))
    assert job.attempts == MAX_HISTORY + 3


def test_the_wait_doubles_up_to_its_ceiling_and_is_no_shorter_than_the_host_asks() -> None:
    many = Retries(most=99, first_seconds=1.0, most_seconds=30.0)

    def waits(attempts: int, asked: float | None = None) -> list[float]:
        job = RepoJob(did=JOB.did, attempts=attempts)
        ends = [after(TryLater("server_error", seconds=asked), job, many, NOW) for _ in range(200)]
        return [end.seconds for end in ends if isinstance(end, Parked)]

    assert 3.0 < max(waits(2)) <= 4.0
    assert 25.0 < max(waits(20)) <= 30.0
    assert min(waits(2, asked=100.0)) == 100.0


def test_a_repo_beyond_the_size_limit_is_buried_at_the_first_try() -> None:
    end = after(BadInput("too_large"), RepoJob(did=JOB.did), RETRIES, NOW)
    assert isinstance(end, Buried)
    assert (end.reason, end.job.attempts) == ("too_large", 1)


def test_every_reason_has_one_kind_and_no_text_makes_a_new_series() -> None:
    series = len(list(metrics.FAILURES_BY_REASON.collect()[0].samples))
    for reason in (*outcomes.FAILURES, "something else", ""):
        totals = [counter._value.get() for counter in KINDS]
        metrics.failed(reason)
        moved = [counter._value.get() - total for counter, total in zip(KINDS, totals, strict=True)]
        assert sum(moved) == 1
        assert moved[1] == (reason in outcomes.PARSING)
        assert moved[2] == (reason in outcomes.VERIFYING)
    assert len(list(metrics.FAILURES_BY_REASON.collect()[0].samples)) == series
    assert not set(outcomes.FAILURES) & {*outcomes.DEFERRED, *outcomes.FINISHED}


KINDS = (metrics.FETCH_ERRORS, metrics.PARSE_ERRORS, metrics.VERIFICATION_ERRORS)
