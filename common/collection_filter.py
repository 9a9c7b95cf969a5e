"""Which collections are ours: decided once, at the earliest point where the collection of an event is known."""

from common.errors import BadInput
from common.syntax import NSID


class CollectionFilter:
    """Call it with a collection. Patterns are NSIDs, or `app.bsky.*` for all that begin with `app.bsky.`, or `*`.

    Raises BadInput("bad_pattern"): the patterns may come from a stream as well as from settings.
    """

    __slots__ = ("_exact", "_prefixes", "patterns")

    def __init__(self, patterns: tuple[str, ...]) -> None:
        for pattern in patterns:
            _check(pattern)
        self.patterns = patterns
        self._exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
        self._prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))

    def __call__(self, collection: str) -> bool:
        return collection.startswith(self._prefixes) or collection in self._exact

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CollectionFilter) and self.patterns == other.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def __repr__(self) -> str:
        return f"CollectionFilter({self.patterns!r})"


def _check(pattern: str) -> None:
    """The stem of a wildcard is what an NSID may begin with: `app.bsky.*` could name `app.bsky.x`."""
    stem = pattern.removesuffix(".*")
    example = pattern if stem == pattern else f"{stem}.x.x"
    if pattern != "*" and not NSID.fullmatch(example):
        raise BadInput("bad_pattern", pattern[:80])
