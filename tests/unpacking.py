"""Repos to unpack, real ones and one made here, and what comes out of them."""

from backfiller.unpack import Snapshot, unpack
from common.collection_filter import CollectionFilter
from common.events import CreateEvent, DeleteEvent, RepoEvent, decode_event
from tests.signed_repos import DID, Signer, record, repo

BSKY = CollectionFilter(("app.bsky.*", "chat.bsky.*"))
ALL = CollectionFilter(("*",))
SIGNER = Signer()
TIME = "2026-11-20T22:10:55.077Z"
SMALL = "did:plc:xaa2zbidn75g7mqnjoi2lvnq"
REAL = [SMALL, "did:plc:nrbvvkhsqnojpc5lp6rd52l7", "did:plc:cugacuj46dltsxlnm72craib"]
POST = record("a post")
RECORDS = {
    "app.bsky.feed.post/3mfxgt2k7ir22": POST,
    "app.bsky.feed.post/3mfxgt2k7ir23": record("another"),
    "app.bskyfoo.post/3mfxgt2k7ir22": record("not ours"),
    "com.example.thing/self": record("not ours either"),
}
Event = CreateEvent | DeleteEvent | RepoEvent


def events(snapshot: Snapshot) -> list[Event]:
    return [decode_event(payload) for payload in snapshot.payloads(TIME)]  # type: ignore[misc]  # no others are made


def made(records: dict[str, bytes], collections: CollectionFilter = BSKY) -> Snapshot:
    return unpack(repo(records, SIGNER), DID, SIGNER.public, collections)
