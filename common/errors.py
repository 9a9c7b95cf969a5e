"""The ways work can fail, named by what the caller must do next."""


class BadInput(Exception):
    """The network sent something unusable: drop it, count it under `reason`, go on.

    `reason` comes from a closed list (each daemon's metrics.py registers its own); `detail` is for a person.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class TryLater(Exception):
    """The other side is unwell: try again after a wait. `seconds` is the wait it asked for, if it did."""

    def __init__(self, reason: str, detail: str = "", seconds: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.seconds = seconds


class GiveUp(Exception):
    """This can never succeed, and the reason is not a fault: finish it, recorded under `reason`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class CannotStart(Exception):
    """The daemon must not run like this. The message is one line that says what to do."""
