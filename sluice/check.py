"""What one check of a deployment found."""

from dataclasses import dataclass
from typing import Literal, Self

Outcome = Literal["pass", "FAIL", "skip"]


@dataclass(frozen=True, slots=True)
class Check:
    """`detail` is what was found, or why nothing was looked at."""

    name: str
    outcome: Outcome
    detail: str

    @classmethod
    def of(cls, name: str, good: bool, detail: str) -> Self:
        return cls(name, "pass" if good else "FAIL", detail)

    @classmethod
    def failed(cls, name: str, detail: str) -> Self:
        return cls(name, "FAIL", detail)

    @classmethod
    def skipped(cls, name: str, why: str) -> Self:
        return cls(name, "skip", why)
