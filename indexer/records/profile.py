"""app.bsky.actor.profile: only the record `self` is the person's profile."""

from collections.abc import Iterator

from indexer.handler import Record, RecordHandler
from indexer.tables import Row, Table

PROFILE = Table(
    "profile",
    (
        "uri",
        "cid",
        "creator",
        "displayName",
        "description",
        "avatarCid",
        "bannerCid",
        "joinedViaStarterPackUri",
        "createdAt",
        "indexedAt",
    ),
)


def rows(record: Record) -> Iterator[Row]:
    if record.rkey != "self":
        return
    yield PROFILE.row(
        uri=record.uri,
        cid=record.cid,
        creator=record.did,
        displayName=record.optional_text("displayName"),
        description=record.optional_text("description"),
        avatarCid=record.blob_cid("avatar"),
        bannerCid=record.blob_cid("banner"),
        joinedViaStarterPackUri=record.optional_text("joinedViaStarterPack", "uri"),
        # as written, unlike every other createdAt; the AppView needs some value when there is none
        createdAt=record.optional_text("createdAt") or record.indexed_at,
        indexedAt=record.indexed_at,
    )


HANDLER = RecordHandler("app.bsky.actor.profile", (PROFILE,), rows, metric="profile")
