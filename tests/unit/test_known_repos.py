"""What a host lists of a repo, against what is known of it."""

import pytest

from common.chain import RepoState
from common.events import RepoJob
from ingester.known_repos import is_seen, is_whole

DID = "did:plc:madeheremadeheremadehere"
OLD, NOW, NEW = "3mfxgnzioczbe", "3mfxgnzioczbf", "3mfxgnzioczbg"


def known(status: str = "w", account: str = "+", rev: str = NOW) -> RepoState:
    return RepoState(status, account, rev, bytes(16))


def listed(rev: str = NOW, *, active: bool = True) -> RepoJob:
    return RepoJob(did=DID, rev=rev, active=active)


@pytest.mark.parametrize(
    ("state", "job", "seen"),
    [
        (known(), listed(), True),
        (known(), listed(OLD), True),
        (known(), listed(NEW), False),
        (known("f"), listed(), False),
        (known("c"), listed(), True),  # out of step, and queued for that
        (known("n", rev=""), listed(), False),
        (known(), listed(""), False),
        (known(), listed("!"), False),
        (known(), listed(active=False), False),
        (known(account="-"), listed(), False),
        (known(account="m"), listed(), False),
        (known(account="-"), listed(NEW, active=False), True),
    ],
)
def test_nothing_was_missed_if_the_rev_has_come_and_the_account_is_as_listed(
    state: RepoState, job: RepoJob, seen: bool
) -> None:
    assert is_seen(state, job) is seen


@pytest.mark.parametrize(
    ("state", "job", "whole"),
    [
        (known("w"), listed(), True),
        (known("W"), listed(), True),
        (known("w"), listed(""), True),
        (known("w"), listed(NEW), False),
        (known("w"), listed(active=False), False),
        (known("f"), listed(), False),
        (known("f"), listed(""), False),
        (known("c"), listed(), False),
        (known("n", rev=""), listed(""), False),
    ],
)
def test_a_repo_is_whole_if_all_of_it_has_come_up_to_its_rev(state: RepoState, job: RepoJob, whole: bool) -> None:
    assert is_whole(state, job) is whole
