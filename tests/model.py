"""The tables as they must be, worked out slowly and plainly from everything that happened.

It knows the AppView's tables and our documented rules (docs/differences.md), and nothing of the indexer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from common.events import StreamEvent
from tests.model_embeds import embed_rows
from tests.model_history import History, Version, authority, history_of
from tests.model_threads import flags, told

Row = dict[str, Any]
Tables = dict[str, list[Row]]
Mutes = frozenset[tuple[str, str]]  # (who, root of the thread)
POST, LIKE, REPOST = "app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.feed.repost"
FOLLOW = "app.bsky.graph.follow"


def _subject_and_via(version: Version) -> Row:
    subject = {"subject": version.get("subject", "uri"), "subjectCid": version.get("subject", "cid")}
    return subject | {"via": version.get("via", "uri"), "viaCid": version.get("via", "cid")}


def _list(version: Version) -> Row:
    given = {"name": version.get("name"), "purpose": version.get("purpose"), "description": version.get("description")}
    return given | {"descriptionFacets": None, "avatarCid": None}


# of each collection: its table, what its rows have of their own, and of what nobody may say two things
Own = Callable[[Version], Row]
SIMPLE: dict[str, tuple[str, Own, tuple[str, ...]]] = {
    LIKE: ("like", _subject_and_via, ("creator", "subject")),
    REPOST: ("repost", _subject_and_via, ("creator", "subject")),
    FOLLOW: ("follow", lambda v: {"subjectDid": v.get("subject")}, ("creator", "subjectDid")),
    "app.bsky.graph.block": ("actor_block", lambda v: {"subjectDid": v.get("subject")}, ("creator", "subjectDid")),
    "app.bsky.graph.listblock": ("list_block", lambda v: {"subjectUri": v.get("subject")}, ("creator", "subjectUri")),
    "app.bsky.graph.listitem": (
        "list_item",
        lambda v: {"subjectDid": v.get("subject"), "listUri": v.get("list")},
        ("listUri", "subjectDid"),
    ),
    "app.bsky.graph.list": ("list", _list, ("uri",)),
    "app.bsky.feed.threadgate": ("thread_gate", lambda v: {"postUri": v.get("post")}, ("postUri",)),
    "app.bsky.feed.postgate": ("post_gate", lambda v: {"postUri": v.get("post")}, ("postUri",)),
}
WITHOUT_SORT_AT = ("thread_gate", "post_gate")
EMBEDS = ("image", "gallery_image", "external", "video", "record")
COVERED = (
    *(table for table, _, _ in SIMPLE.values()),
    *("record", "post", "quote", "feed_item", "op_thread_reply", "duplicate_record", "notification"),
    *("post_agg", "profile_agg", "actor_sync", *(f"post_embed_{kind}" for kind in EMBEDS)),
)


def tables(events: Iterable[StreamEvent], mutes: Mutes = frozenset()) -> Tables:
    """Every row of the tables in COVERED; an op_thread_reply that was deleted says "<set>" instead of when."""
    history = history_of(events)
    result: Tables = {table: [] for table in COVERED}
    result["record"] = [_record(version) for version in history.live()]
    result["actor_sync"] = [
        {"did": did, "commitCid": commit, "repoRev": rev} for did, (rev, commit) in history.commits.items()
    ]
    holders = [holder for collection in SIMPLE for holder in _fill_simple(history, collection, result)]
    _fill_posts(history, result)
    _fill_feed(history, result)
    result["op_thread_reply"] = list(_own_thread_replies(history))
    result["post_agg"] = _counted(history, result)
    result["profile_agg"] = _people_counted(history, result)
    notices = [*(row for holder in holders for row in _told_of(holder)), *_told_of_posts(history)]
    result["notification"] = [row for row in notices if not _is_muted(history, row, mutes)]
    return result


def _record(version: Version) -> Row:
    known = {"uri": version.uri, "cid": version.cid, "did": version.did, "json": version.text, "rev": version.rev}
    return known | {"indexedAt": version.time, "takedownRef": None, "tags": None}


def _common(version: Version) -> Row:
    known = {"uri": version.uri, "cid": version.cid, "creator": version.did}
    return known | {"createdAt": version.get("createdAt"), "indexedAt": version.time, "sortAt": version.sort_at}


def _fill_simple(history: History, collection: str, result: Tables) -> Iterator[Version]:
    """Of those that say the same the earliest has the row; the others are its duplicates. The answer: who has one."""
    table, own, unique = SIMPLE[collection]
    claims: dict[tuple[str, ...], list[Version]] = defaultdict(list)
    for version in history.live(collection):
        row = _common(version) | own(version)
        claims[tuple(row[column] for column in unique)].append(version)
    for claimants in claims.values():
        holder, *others = sorted(claimants, key=lambda version: (version.time, version.uri))
        row = _common(holder) | own(holder)
        result[table].append({k: v for k, v in row.items() if k != "sortAt" or table not in WITHOUT_SORT_AT})
        for other in others:
            duplicate = {"uri": other.uri, "cid": other.cid, "duplicateOf": holder.uri, "indexedAt": other.time}
            result["duplicate_record"].append(duplicate)
        yield holder


def _fill_posts(history: History, result: Tables) -> None:
    for post in history.live(POST):
        row = _common(post) | {
            "text": post.get("text"),
            "langs": post.get("langs") or None,
            "tags": post.get("tags") or None,
        }
        row |= {"replyRoot": post.root, "replyRootCid": post.get("reply", "root", "cid")}
        row |= {"replyParent": post.parent, "replyParentCid": post.get("reply", "parent", "cid")}
        result["post"].append(row | flags(history, post))
        for table, embed in embed_rows(post):
            result[table].append(embed)
        if post.quoted and not _went_after(history, post.quoted, post):
            quote = {k: v for k, v in _common(post).items() if k != "creator"}
            result["quote"].append(
                quote | {"subject": post.quoted, "subjectCid": result["post_embed_record"][-1]["embedCid"]}
            )


def _went_after(history: History, subject: str, version: Version) -> bool:
    """A post that is deleted takes along the quotes and reposts of it that were there."""
    return any(time > version.time for time in history.deletions(subject))


def _fill_feed(history: History, result: Tables) -> None:
    for version in history.live():
        if version.collection not in (POST, REPOST):
            continue
        kind = version.collection.rpartition(".")[2]
        post = version.uri if kind == "post" else version.get("subject", "uri")
        if kind == "repost" and _went_after(history, post, version):
            continue
        item = {"uri": version.uri, "cid": version.cid, "type": kind, "postUri": post}
        result["feed_item"].append(item | {"originatorDid": version.did, "sortAt": version.sort_at})


def _own_thread_replies(history: History) -> Iterator[Row]:
    """Every place in their own thread that an author's reply has ever had; marked where it has it no more."""
    live = {version.uri: version for version in history.live(POST)}
    places: dict[tuple[str, str], Version] = {}
    for version in history.ever(POST):
        if version.root and authority(version.root) == version.did:
            places[version.root, version.uri] = version
    for (root, uri), version in places.items():
        is_there = uri in live and live[uri].root == root
        deleted_at = None if is_there else "<set>"
        yield {"rootUri": root, "parentUri": version.parent, "uri": uri, "deletedAt": deleted_at}


def _counted(history: History, result: Tables) -> list[Row]:
    """What was ever counted has a row. A quote counts as long as it is there itself, whatever it quotes."""
    ever = [version for collection in (LIKE, REPOST, POST) for version in history.ever(collection)]
    subjects = {uri for v in ever for uri in (v.parent, v.quoted, v.get("subject", "uri")) if uri}
    return [
        {
            "uri": subject,
            "likeCount": sum(row["subject"] == subject for row in result["like"]),
            "repostCount": sum(row["subject"] == subject for row in result["repost"]),
            "replyCount": sum(
                row["replyParent"] == subject and not row["violatesThreadGate"] for row in result["post"]
            ),
            "quoteCount": sum(post.quoted == subject for post in history.live(POST)),
            "bookmarkCount": 0,
        }
        for subject in subjects
    ]


def _people_counted(history: History, result: Tables) -> list[Row]:
    people = {version.did for collection in (POST, FOLLOW) for version in history.ever(collection)}
    people |= {version.get("subject") for version in history.ever(FOLLOW)}
    return [
        {
            "did": person,
            "followersCount": sum(row["subjectDid"] == person for row in result["follow"]),
            "followsCount": sum(row["creator"] == person for row in result["follow"]),
            "postsCount": sum(row["creator"] == person for row in result["post"]),
        }
        for person in people
    ]


def _notice(version: Version, to: str, reason: str, subject: str | None) -> Row:
    row = {"did": to, "author": version.did, "recordUri": version.uri, "recordCid": version.cid}
    return row | {"reason": reason, "reasonSubject": subject, "sortAt": version.sort_at}


def _told_of(holder: Version) -> Iterator[Row]:
    """A like or repost tells whose post it is, and whose repost led there; a like of one's own tells nobody."""
    if holder.collection == FOLLOW:
        yield _notice(holder, holder.get("subject"), "follow", None)
    if holder.collection not in (LIKE, REPOST):
        return
    kind = holder.collection.rpartition(".")[2]
    subject, via = holder.get("subject", "uri"), holder.get("via", "uri")
    if authority(subject) == holder.did:
        return
    yield _notice(holder, authority(subject), kind, subject)
    if via and authority(via) != holder.did:
        yield _notice(holder, authority(via), f"{kind}-via-repost", via)


def _told_of_posts(history: History) -> Iterator[Row]:
    for post in history.live(POST):
        for person, reason, subject in told(history, post):
            yield _notice(post, person, reason, subject)


def _is_muted(history: History, notice: Row, mutes: Mutes) -> bool:
    """Whoever mutes a thread hears nothing about its posts."""
    posts = history.of(notice["reasonSubject"] or "")
    return any((notice["did"], post.root or post.uri) in mutes for post in posts)
