"""What happened to every record, in the order of revs: which version stood from when until when.

This is the ground of the model (model.py), and shares nothing with the indexer.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from common.events import CreateEvent, DeleteEvent, RecordEvent, RepoEvent, StreamEvent, UpdateEvent
from common.syntax import tid_microseconds, utc_text

Json = dict[str, Any]
NEVER = "never"  # sorts after every time
POST, THREAD_GATE, POST_GATE = "app.bsky.feed.post", "app.bsky.feed.threadgate", "app.bsky.feed.postgate"


@dataclass(frozen=True)
class Version:
    """One version of a record; `value` is None for a deletion, and for what is no valid record.

    It stood from `time` until `until`, when it was edited or deleted.
    """

    uri: str
    did: str
    collection: str
    cid: str
    rev: str
    time: str
    text: str
    value: Json | None
    until: str = NEVER

    @property
    def sort_at(self) -> str:
        return min(self.get("createdAt"), self.time)

    def get(self, *path: str) -> Any:
        """What stands in the record at this path, or None."""
        found: Any = self.value
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        return found

    @property
    def parent(self) -> str | None:
        return self.get("reply", "parent", "uri")

    @property
    def root(self) -> str | None:
        return self.get("reply", "root", "uri")

    @property
    def quoted(self) -> str | None:
        """The URI of the post that this post embeds."""
        embed = self.get("embed")
        if embed and embed["$type"] == "app.bsky.embed.recordWithMedia":
            embed = embed["record"] | {"$type": "app.bsky.embed.record"}
        if not embed or embed["$type"] != "app.bsky.embed.record":
            return None
        uri: str = embed["record"]["uri"]
        return uri if f"/{POST}/" in uri else None


@dataclass
class History:
    """`versions`: all of each record, oldest first. `commits`: the newest (rev, CID of the commit) of each person."""

    versions: dict[str, list[Version]] = field(default_factory=dict)
    commits: dict[str, tuple[str, str]] = field(default_factory=dict)

    def live(self, collection: str = "") -> list[Version]:
        """The records that are there in the end."""
        last = [versions[-1] for versions in self.versions.values()]
        return [version for version in last if version.value and collection in ("", version.collection)]

    def ever(self, collection: str) -> Iterator[Version]:
        """Every valid version that any record of this collection has had."""
        for versions in self.versions.values():
            yield from (version for version in versions if version.value and version.collection == collection)

    def of(self, uri: str) -> list[Version]:
        """The valid versions of one record."""
        return [version for version in self.versions.get(uri, []) if version.value]

    def at(self, uri: str, time: str) -> Version | None:
        """The version that stood at a moment."""
        return next((version for version in self.of(uri) if version.time <= time < version.until), None)

    def from_then_on(self, uri: str, time: str) -> list[Version]:
        """The version that stood at a moment, and those that came later."""
        return [version for version in self.of(uri) if version.until > time]

    def deletions(self, uri: str) -> list[str]:
        """When the record went: after a valid version came none."""
        versions = self.versions.get(uri, [])
        return [b.time for a, b in pairwise(versions) if a.value and not b.value]


def history_of(events: Iterable[StreamEvent]) -> History:
    history = History()
    for event in sorted(_with_revs(events), key=lambda event: event.rev):
        history.commits[event.did] = (event.rev, event.commit)
        if isinstance(event, RecordEvent):
            _add(history.versions.setdefault(event.uri, []), _version(event))
        elif event.snapshot:
            _end_what_lacks(history, event)
    return history


def _end_what_lacks(history: History, snapshot: RepoEvent) -> None:
    """What a snapshot does not have is gone since then at the latest."""
    time = utc_text(datetime.fromtimestamp(tid_microseconds(snapshot.rev) / 1_000_000, UTC))
    for versions in history.versions.values():
        last = versions[-1]
        if last.did == snapshot.did and last.value and last.rev < snapshot.rev:
            _add(versions, replace(last, cid="", rev=snapshot.rev, time=time, text="", value=None))


def _with_revs(events: Iterable[StreamEvent]) -> Iterator[RecordEvent | RepoEvent]:
    return (event for event in events if isinstance(event, RecordEvent | RepoEvent))


def _add(versions: list[Version], new: Version) -> None:
    """A snapshot repeats what is there: the same version, seen again at a newer rev."""
    if versions and versions[-1].cid == new.cid and new.cid:
        versions[-1] = replace(versions[-1], rev=new.rev)
        return
    if versions:
        versions[-1] = replace(versions[-1], until=new.time)
    versions.append(new)


def _version(event: RecordEvent) -> Version:
    common = {"uri": event.uri, "did": event.did, "collection": event.collection, "rev": event.rev, "time": event.time}
    if isinstance(event, DeleteEvent):
        return Version(**common, cid="", text="", value=None)
    assert isinstance(event, CreateEvent | UpdateEvent)
    text = bytes(event.record).decode()
    value = json.loads(text)
    return Version(**common, cid=event.cid, text=text, value=value if is_valid(event, value) else None)


def is_valid(event: RecordEvent, value: Json) -> bool:
    """As far as the worlds go wrong: no createdAt, a gate beside another post, somebody on a foreign list."""
    if "createdAt" not in value:
        return False
    if event.collection in (THREAD_GATE, POST_GATE):
        gated: str = value["post"]
        return authority(gated) == event.did and gated.rpartition("/")[2] == event.rkey
    return event.collection != "app.bsky.graph.listitem" or authority(value["list"]) == event.did


def authority(uri: str) -> str:
    return uri.removeprefix("at://").partition("/")[0]
