"""What a post embeds, as rows: images, galleries, links, videos, records, and a record with media."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.syntax import collection_of
from indexer.handler import Record
from indexer.tables import Row, Table, counted

POST_COLLECTION = "app.bsky.feed.post"

IMAGE = Table("post_embed_image", ("postUri", "position", "imageCid", "alt"), owner="postUri")
GALLERY_IMAGE = Table("post_embed_gallery_image", ("postUri", "position", "imageCid", "alt"), owner="postUri")
EXTERNAL = Table("post_embed_external", ("postUri", "uri", "title", "description", "thumbCid"), owner="postUri")
VIDEO = Table("post_embed_video", ("postUri", "videoCid", "alt"), owner="postUri")
RECORD = Table("post_embed_record", ("postUri", "embedUri", "embedCid"), owner="postUri", returns=("embedUri",))
QUOTE = Table(
    "quote",
    ("uri", "cid", "subject", "subjectCid", "createdAt", "indexedAt"),
    counters=(counted("quoteCount", by="subject"),),
)
EMBED_TABLES = (IMAGE, GALLERY_IMAGE, EXTERNAL, VIDEO, RECORD, QUOTE)


def embed_rows(record: Record) -> Iterator[Row]:
    """Rows of every embed that is known; unknown kinds are legal and mean nothing to us."""
    for embed in _parts(record.value.get("embed")):
        rows = _ROWS.get(embed.get("$type", ""))
        if rows:
            yield from rows(record, embed)


def quotes_lost_before(gone: Mapping[Table, Sequence[Any]]) -> Iterator[str]:
    """Of posts that go: what they quoted, where the row of the quote has gone already, with the post that it was of.

    It has counted until now.
    """
    quoting = {row["uri"] for row in gone.get(QUOTE, ())}
    for row in gone.get(RECORD, ()):
        if collection_of(row["embedUri"]) == POST_COLLECTION and row["postUri"] not in quoting:
            yield row["embedUri"]


def quoted_post(value: dict[str, Any]) -> str | None:
    """The URI of the post that a post embeds, if it does."""
    for embed in _parts(value.get("embed")):
        if embed.get("$type") == "app.bsky.embed.record":
            uri: str = embed["record"]["uri"]
            return uri if collection_of(uri) == POST_COLLECTION else None
    return None


def _parts(embed: Any) -> list[dict[str, Any]]:
    if not isinstance(embed, dict):
        return []
    if embed.get("$type") == "app.bsky.embed.recordWithMedia":
        return [{**embed["record"], "$type": "app.bsky.embed.record"}, embed["media"]]
    return [embed]


def _image_rows(record: Record, embed: dict[str, Any]) -> Iterator[Row]:
    for position, image in enumerate(embed["images"]):
        yield IMAGE.row(
            postUri=record.uri, position=str(position), imageCid=image["image"]["ref"]["$link"], alt=image["alt"]
        )


def _gallery_rows(record: Record, embed: dict[str, Any]) -> Iterator[Row]:
    for position, item in enumerate(embed["items"]):
        if item.get("$type") == "app.bsky.embed.gallery#image":
            cid = item["image"]["ref"]["$link"]
            yield GALLERY_IMAGE.row(postUri=record.uri, position=str(position), imageCid=cid, alt=item["alt"])


def _external_rows(record: Record, embed: dict[str, Any]) -> Iterator[Row]:
    link = embed["external"]
    thumb = link.get("thumb")
    yield EXTERNAL.row(
        postUri=record.uri,
        uri=link["uri"],
        title=link["title"],
        description=link["description"],
        thumbCid=thumb["ref"]["$link"] if thumb else None,
    )


def _video_rows(record: Record, embed: dict[str, Any]) -> Iterator[Row]:
    yield VIDEO.row(postUri=record.uri, videoCid=embed["video"]["ref"]["$link"], alt=embed.get("alt"))


def _record_rows(record: Record, embed: dict[str, Any]) -> Iterator[Row]:
    subject, subject_cid = embed["record"]["uri"], embed["record"]["cid"]
    yield RECORD.row(postUri=record.uri, embedUri=subject, embedCid=subject_cid)
    if collection_of(subject) == POST_COLLECTION:
        yield QUOTE.row(
            uri=record.uri,
            cid=record.cid,
            subject=subject,
            subjectCid=subject_cid,
            createdAt=record.created_at,
            indexedAt=record.indexed_at,
        )


_ROWS = {
    "app.bsky.embed.images": _image_rows,
    "app.bsky.embed.gallery": _gallery_rows,
    "app.bsky.embed.external": _external_rows,
    "app.bsky.embed.video": _video_rows,
    "app.bsky.embed.record": _record_rows,
}
