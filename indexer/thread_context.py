"""Reads what the place of posts depends on: a bounded number of statements, however many posts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from indexer.embeds import quoted_post
from indexer.gate_rules import Relations, rule_lists
from indexer.session import Session, columns
from indexer.threads import TOLD_ANCESTORS, Gate, Post


async def read_posts(session: Session, uris: Sequence[str]) -> dict[str, Post]:
    """The posts that exist among `uris`, with everything that their flags and notifications depend on."""
    posts = {row["uri"]: _post(row) for row in await session.fetch(_READ, uris)}
    found = sorted(posts)
    for row in await session.fetch(_ANCESTORS, found, TOLD_ANCESTORS):
        posts[row["post"]].ancestors.append(row["ancestor"])
    for row in await session.fetch(_TOLD, found):
        posts[row["recordUri"]].told[row["did"]] = (row["reason"], row["reasonSubject"])
    await _read_quoted_gates(session, posts)
    return posts


async def read_relations(session: Session, posts: Iterable[Post]) -> dict[str, Relations]:
    """For replies under a gate: how their author and the root's stood to each other at the time. Keyed by URI."""
    gated = {post.uri: post for post in posts}
    if not gated:
        return {}
    pairs = [(post.uri, post.creator, root_author(post), post.time) for post in gated.values()]
    follows = await session.fetch(_FOLLOWS, *columns(pairs))
    asked = [
        (post.uri, post.creator, list_uri, post.time)
        for post in gated.values()
        for list_uri in rule_lists(post.gate_in_force() or {})
    ]
    members: Mapping[str, set[str]] = defaultdict(set)
    for row in await session.fetch(_MEMBERS, *columns(asked)) if asked else ():
        members[row["post"]].add(row["list"])
    return {
        row["post"]: Relations(bool(row["follows"]), bool(row["followed"]), members[row["post"]].__contains__)
        for row in follows
    }


def root_author(post: Post) -> str:
    return (post.root or post.uri)[5:].partition("/")[0]


def _post(row: Any) -> Post:
    value = orjson.loads(row["json"])
    return Post(
        uri=row["uri"],
        cid=row["cid"],
        creator=row["creator"],
        time=row["indexedAt"],
        sort_at=row["sortAt"],
        root=row["replyRoot"],
        parent=row["replyParent"],
        invalid=row["invalidReplyRoot"],
        violates=row["violatesThreadGate"],
        violates_embedding=row["violatesEmbeddingRules"],
        value=value,
        parent_known=row["parent_known"],
        parent_root=row["parent_root"],
        parent_invalid=row["parent_invalid"],
        gate=_gate(row["gate"], row["gate_time"]),
        root_value=orjson.loads(row["root"]) if row["root"] else None,
        quoted=quoted_post(value),
    )


def _gate(text: str | None, time: str) -> Gate | None:
    return Gate(orjson.loads(text), time) if text else None


async def _read_quoted_gates(session: Session, posts: Mapping[str, Post]) -> None:
    by_gate: dict[str, list[Post]] = defaultdict(list)
    for post in posts.values():
        if post.quoted:
            by_gate[post.quoted.replace("/app.bsky.feed.post/", "/app.bsky.feed.postgate/")].append(post)
    if not by_gate:
        return
    for row in await session.fetch(_QUOTED_GATES, sorted(by_gate)):
        for post in by_gate[row["uri"]]:
            if row["time"] <= post.time and (row["until"] is None or row["until"] > post.time):
                post.quoted_gate = _gate(row["json"], row["time"])


# A gate's facts are what its author wrote, so facts are looked into only where they are known to be ours.
# What is gone now, and was there when the post was written, counts as there: tombstones of a later time tell
_READ = """
SELECT post.uri, post.cid, post.creator, post."indexedAt", post."sortAt", post."replyRoot", post."replyParent",
  post."invalidReplyRoot", post."violatesThreadGate", post."violatesEmbeddingRules", record.json,
  parent.uri IS NOT NULL OR parent_stone.facts IS NOT NULL AS parent_known,
  coalesce(parent_post."replyRoot", post_stone.facts::json ->> 'root') AS parent_root,
  coalesce(parent_post."invalidReplyRoot", (post_stone.facts::json ->> 'invalid')::boolean) AS parent_invalid,
  coalesce(gate_stone.facts, gate.json) AS gate,
  CASE WHEN gate_stone.facts IS NULL THEN gate."indexedAt" ELSE coalesce(gate_stone.since, '') END AS gate_time,
  root.json AS root
FROM {app}.post
JOIN {app}.record ON record.uri = post.uri
LEFT JOIN {app}.record AS parent ON parent.uri = post."replyParent"
LEFT JOIN {app}.post AS parent_post ON parent_post.uri = post."replyParent"
LEFT JOIN {own}.tombstone AS parent_stone
  ON parent_stone.uri = post."replyParent" AND parent.uri IS NULL AND parent_stone.time > post."indexedAt"
LEFT JOIN {own}.tombstone AS post_stone
  ON post_stone.uri = parent_stone.uri AND post_stone.uri LIKE '%/app.bsky.feed.post/%'
LEFT JOIN {app}.record AS gate
  ON gate.uri = replace(coalesce(post."replyRoot", post.uri), '/app.bsky.feed.post/', '/app.bsky.feed.threadgate/')
LEFT JOIN {own}.tombstone AS gate_stone
  ON (gate.uri IS NULL OR gate."indexedAt" > post."indexedAt") AND gate_stone.time > post."indexedAt"
  AND gate_stone.uri =
    replace(coalesce(post."replyRoot", post.uri), '/app.bsky.feed.post/', '/app.bsky.feed.threadgate/')
LEFT JOIN {app}.record AS root
  ON root.uri = post."replyRoot" AND (gate.uri IS NOT NULL OR gate_stone.uri IS NOT NULL)
WHERE post.uri = ANY($1::text[])
"""
_ANCESTORS = """
WITH RECURSIVE above AS (
  SELECT uri AS post, "indexedAt" AS time, "replyParent" AS ancestor, 1 AS height
  FROM {app}.post WHERE uri = ANY($1::text[]) AND "replyParent" IS NOT NULL
  UNION ALL
  SELECT above.post, above.time, next.parent, height + 1
  FROM above JOIN LATERAL (
    SELECT post."replyParent" AS parent FROM {app}.post WHERE post.uri = above.ancestor
    UNION ALL
    SELECT tombstone.parent FROM {own}.tombstone WHERE tombstone.uri = above.ancestor AND tombstone.time > above.time
  ) AS next ON next.parent IS NOT NULL
  WHERE height < $2
)
SELECT above.post, ancestor FROM above
WHERE EXISTS (SELECT 1 FROM {app}.post WHERE post.uri = ancestor)
  OR EXISTS (
    SELECT 1 FROM {own}.tombstone WHERE tombstone.uri = ancestor AND tombstone.time > above.time AND facts IS NOT NULL
  )
ORDER BY height
"""
_QUOTED_GATES = """
SELECT uri, json, "indexedAt" AS time, NULL AS until FROM {app}.record WHERE uri = ANY($1::text[])
UNION ALL
SELECT uri, facts, coalesce(since, ''), time FROM {own}.tombstone WHERE uri = ANY($1::text[]) AND facts IS NOT NULL
"""
_TOLD = """
SELECT did, "recordUri", reason, "reasonSubject" FROM {app}.notification WHERE "recordUri" = ANY($1::text[])
"""
_FOLLOWS = """
SELECT post, bool_or(follower = replier) AS follows, bool_or(follower = author) AS followed
FROM (
  SELECT asked.*, follow.creator AS follower
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS asked(post, replier, author, time)
  LEFT JOIN {app}.follow
    ON follow.creator IN (replier, author) AND "indexedAt" <= time
    AND "subjectDid" = CASE follow.creator WHEN replier THEN author ELSE replier END
  UNION ALL
  SELECT asked.*, tombstone.did
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS asked(post, replier, author, time)
  JOIN {own}.tombstone ON tombstone.did IN (replier, author) AND tombstone.time > asked.time
    AND CASE WHEN tombstone.uri LIKE '%/app.bsky.graph.follow/%' THEN facts::json ->> 'since' <= asked.time
      AND facts::json ->> 'subject' = CASE tombstone.did WHEN replier THEN author ELSE replier END END
) AS tie
GROUP BY post
"""
_MEMBERS = """
SELECT asked.post, asked.list
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS asked(post, person, list, time)
JOIN {app}.list_item ON "listUri" = asked.list AND "subjectDid" = person AND "indexedAt" <= time
UNION ALL
SELECT asked.post, asked.list
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS asked(post, person, list, time)
JOIN {own}.tombstone ON tombstone.did = split_part(asked.list, '/', 3) AND tombstone.time > asked.time
  AND CASE WHEN tombstone.uri LIKE '%/app.bsky.graph.listitem/%' THEN facts::json ->> 'since' <= asked.time
    AND facts::json ->> 'list' = asked.list AND facts::json ->> 'subject' = person END
"""
