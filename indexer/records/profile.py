"""app.bsky.actor.profile: only the record `self` is the person's profile."""

from collections.abc import Iterator

from common.syntax import authority_of
from indexer.handler import Record, RecordHandler
from indexer.notifications import notification
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


def announcements(record: Record) -> Iterator[Row]:
    """Whose starter pack brought them here."""
    pack = record.optional_text("joinedViaStarterPack", "uri")
    if pack and record.rkey == "self":
        to = authority_of(pack)
        yield notification(record, to=to, reason="starterpack-joined", about=pack, sort_at=record.indexed_at)


HANDLER = RecordHandler("app.bsky.actor.profile", (PROFILE,), rows, announcements=announcements, metric="profile")
