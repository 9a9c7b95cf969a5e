"""The model's idea of what a post embeds, as (table, row)."""

from collections.abc import Iterator
from typing import Any

from tests.model_history import Version

EMBED = "app.bsky.embed."


def embed_rows(post: Version) -> Iterator[tuple[str, dict[str, Any]]]:
    embed = post.get("embed")
    if not embed:
        return
    if embed["$type"] == f"{EMBED}recordWithMedia":
        yield _record(post, embed["record"]["record"])
        embed = embed["media"]
    match embed["$type"].removeprefix(EMBED):
        case "record":
            yield _record(post, embed["record"])
        case "images":
            yield from (("post_embed_image", _picture(post, *numbered)) for numbered in enumerate(embed["images"]))
        case "gallery":
            yield from _gallery(post, embed["items"])
        case "external":
            yield _external(post, embed["external"])
        case "video":
            yield "post_embed_video", _video(post, embed)


def _gallery(post: Version, items: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is no image leaves its number unused."""
    for number, item in enumerate(items):
        if item["$type"] == f"{EMBED}gallery#image":
            yield "post_embed_gallery_image", _picture(post, number, item)


def _external(post: Version, link: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    thumb = link["thumb"]["ref"]["$link"] if "thumb" in link else None
    shown = {name: link[name] for name in ("uri", "title", "description")}
    return "post_embed_external", {"postUri": post.uri, "thumbCid": thumb} | shown


def _video(post: Version, embed: dict[str, Any]) -> dict[str, Any]:
    return {"postUri": post.uri, "videoCid": embed["video"]["ref"]["$link"], "alt": embed.get("alt")}


def _record(post: Version, subject: dict[str, str]) -> tuple[str, dict[str, Any]]:
    return "post_embed_record", {"postUri": post.uri, "embedUri": subject["uri"], "embedCid": subject["cid"]}


def _picture(post: Version, number: int, image: dict[str, Any]) -> dict[str, Any]:
    cid = image["image"]["ref"]["$link"]
    return {"postUri": post.uri, "position": str(number), "imageCid": cid, "alt": image["alt"]}
