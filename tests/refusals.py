"""The reason for which a piece of input is refused."""

from collections.abc import Callable

from common.errors import BadInput, TryLater


def refusal(call: Callable[..., object], *arguments: object) -> str | None:
    """The reason of the BadInput or TryLater that the call raises, or None."""
    try:
        call(*arguments)
    except (BadInput, TryLater) as error:
        return error.reason
    return None
