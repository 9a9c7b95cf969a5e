"""The reason for which a piece of input is refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from common.errors import BadInput, GiveUp, TryLater


def refusal(call: Callable[..., object], *arguments: object) -> str | None:
    """The reason of the BadInput or TryLater that the call raises, or None."""
    try:
        call(*arguments)
    except (BadInput, TryLater) as error:
        return error.reason
    return None


@contextmanager
def refused(kind: type[BadInput | TryLater | GiveUp], reason: str) -> Iterator[None]:
    """What stands inside must raise this kind of error, for this reason."""
    with pytest.raises(kind) as failure:
        yield
    assert failure.value.reason == reason
