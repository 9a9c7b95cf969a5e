"""The account of what came in: received = written + filtered + dropped + in memory, for each source, at any moment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from common.events import LabelEvent, StreamEvent
from common.streams import FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL
from ingester.framing import FrameResult, Proof
from ingester.metrics import (
    DROPPED,
    ERRORS,
    ERRORS_BY_REASON,
    FILTERED,
    FIREHOSE_EVENTS,
    FRAMES,
    IN_MEMORY,
    LABELER_EVENTS,
    PROVEN,
    RECEIVED,
    STREAM_EVENTS,
    WORKER_DIED,
    WRITTEN,
)

_FRAME_REASONS = ("bad_cbor", "bad_frame", "replayed", "oversized_frame", "unwritten", "other")
_COMMIT_REASONS = (
    *("too_big", "oversized", "bad_car", "truncated_car", "bad_cid", "bad_op", "bad_path", "unknown_action"),
    *("superseded", "missing_block", "bad_block_hash", "bad_record"),
)
_VERIFICATION_REASONS = (
    *("bad_commit", "commit_mismatch", "future_rev", "no_such_account", "no_did_document", "no_key", "bad_signature"),
    *("bad_mst", "ops_mismatch", "inversion_failed", "inversion_incomplete", "killed_workers"),
)
_CHAIN_REASONS = ("duplicate", "inactive_account")
_SUBSCRIPTION_ERRORS = (
    *("unreachable", "refused", "closed", "idle", "protocol", "oversized", "fenced"),
    *("future_cursor", "consumer_too_slow", "error_frame"),
    "no_did_document",
)

NOTHING: Mapping[str, int] = {}
_BY_PROOF = {proof: PROVEN.labels(proof) for proof in Proof}


def count_firehose(result: FrameResult) -> None:
    """What only the firehose counts, once a frame's events are in memory."""
    if result.filtered:
        FILTERED.inc(result.filtered)
    FIREHOSE_EVENTS.inc(len(result.events))
    if result.proof is not Proof.NONE:
        _BY_PROOF[result.proof].inc()


def count_labels(result: FrameResult) -> None:
    """The contract has a name of its own for the labels received."""
    LABELER_EVENTS.inc(result.received)


@dataclass(frozen=True)
class Source:
    """Where units come from. The lists of labels are closed."""

    name: str
    stream: str
    kinds: tuple[str, ...]
    drop_reasons: tuple[str, ...]
    error_reasons: tuple[str, ...]
    count_frame: Callable[[FrameResult], None] = lambda result: None


FIREHOSE = Source(
    "firehose",
    FIREHOSE_LIVE,
    ("#commit", "#sync", "#identity", "#account", "#info", "error", "unknown", "unreadable"),
    _FRAME_REASONS + _COMMIT_REASONS + _VERIFICATION_REASONS + _CHAIN_REASONS,
    (*_SUBSCRIPTION_ERRORS, WORKER_DIED),
    count_firehose,
)
LABELER = Source(
    "labeler",
    LABEL_LIVE,
    ("#labels", "#info", "error", "unknown", "unreadable"),
    (*_FRAME_REASONS, "bad_label", "foreign_src", "bad_signature"),
    _SUBSCRIPTION_ERRORS,
    count_labels,
)
LISTING = Source(
    "listing",
    REPO_BACKFILL,
    (),
    ("bad_row", "current", "unwritten", "other"),
    ("page", "fenced", "row_skipped"),
)


def units(events: Sequence[StreamEvent | LabelEvent]) -> int:
    """What the account counts: a label event, which is alone in its frame, has its labels; others are one each."""
    if events and isinstance(events[0], LabelEvent):
        return len(events[0].labels)
    return len(events)


class Account:
    """Moves the counters of one source so that they add up."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._received = RECEIVED.labels(source.name)
        self._written = WRITTEN.labels(source.name)
        self._dropped = {reason: DROPPED.labels(source.name, reason) for reason in source.drop_reasons}
        self._errors = {reason: ERRORS_BY_REASON.labels(source.name, reason) for reason in source.error_reasons}
        self._frames = {kind: FRAMES.labels(source.name, kind) for kind in source.kinds}

    def frame(self, kind: str) -> None:
        self._frames.get(kind, self._frames["unknown"]).inc()

    def accept(self, result: FrameResult, held: int) -> None:
        """A frame was read, and `held` units of it are now in memory."""
        self.received(result.received, held, result.dropped)
        self._source.count_frame(result)

    def received(self, count: int, held: int, dropped: Mapping[str, int]) -> None:
        """`count` units came, of which `held` are now in memory."""
        self._received.inc(count)
        if held:
            IN_MEMORY.inc(held)
        for reason, number in dropped.items():
            self._dropped.get(reason, self._dropped["other"]).inc(number)

    def written(self, count: int, dropped: Mapping[str, int] = NOTHING) -> None:
        """`count` held units are dealt with; of those, some were no news and are dropped after all."""
        IN_MEMORY.dec(count)
        news = count - sum(dropped.values())
        self._written.inc(news)
        if self._source is FIREHOSE:
            STREAM_EVENTS.inc(news)
        for reason, number in dropped.items():
            self._dropped[reason].inc(number)

    def discarded(self, count: int) -> None:
        """Held units are thrown away, to be received again."""
        IN_MEMORY.dec(count)
        self._dropped["unwritten"].inc(count)

    def error(self, reason: str) -> None:
        ERRORS.inc()
        self._errors[reason].inc()
