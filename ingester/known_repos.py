"""Whether what a host lists of a repo is known already: compared with the state of its chain (common/chain.py)."""

from collections.abc import Callable, Sequence

from common.chain import RepoState
from common.events import RepoJob
from common.repo_states import RepoStates
from common.syntax import is_tid

IsKnown = Callable[[RepoState, RepoJob], bool]


def is_seen(state: RepoState, job: RepoJob) -> bool:
    """No event of it was missed: the account is as listed, and the listed rev has come to a repo that is whole, or that
    is queued already for being out of step.

    One that is only followed may have been met for the first time after the gap: then nothing tells what came before.
    """
    is_active = state.account == "+"
    if is_active != job.active:
        return False
    is_traced = state.is_whole or state.is_desynchronised
    return not is_active or (is_traced and is_tid(job.rev) and job.rev <= state.rev)


def is_whole(state: RepoState, job: RepoJob) -> bool:
    """Every record of it has come, up to the listed rev. Lists by collection have none."""
    return state.is_whole and (not job.rev or is_seen(state, job))


class KnownRepos:
    """Raises what Redis raises."""

    def __init__(self, states: RepoStates) -> None:
        self._states = states

    async def are_seen(self, jobs: Sequence[RepoJob]) -> list[bool]:
        return await self._are(is_seen, jobs)

    async def are_whole(self, jobs: Sequence[RepoJob]) -> list[bool]:
        return await self._are(is_whole, jobs)

    async def none(self, jobs: Sequence[RepoJob]) -> list[bool]:
        """Every repo is wanted."""
        return [False] * len(jobs)

    async def _are(self, is_known: IsKnown, jobs: Sequence[RepoJob]) -> list[bool]:
        states = await self._states.read([job.did for job in jobs])
        return [state is not None and is_known(state, job) for state, job in zip(states, jobs, strict=True)]
