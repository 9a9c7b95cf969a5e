"""Reads what the place of posts depends on: a bounded number of statements, however many posts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from indexer.embeds import quoted_post
from indexer.gate_rules import Relations, rule_lists
from indexer.session import Session, columns
from indexer.threads import TOLD_ANCESTORS, Post, Verdict


async def read_posts(session: Session, uris: Sequence[str]) -> dict[str, Post]:
    """The posts that exist among `uris`, with everything that their flags and notifications depend on."""
    posts = {row["uri"]: _post(row) for row in await session.fetch(_READ, uris)}
    replies = sorted(uri for uri, post in posts.items() if post.parent)
    if replies:
        for row in await session.fetch(_PLACES, replies):
            post = posts[row["post"]]
            if row["above"] is None:
                post.in_place = True
            else:
                post.above[row["above"]] = row["misplaced"]
        for row in await session.fetch(_ANCESTORS, replies, TOLD_ANCESTORS):
            posts[row["post"]].ancestors.append(row["ancestor"])
    for row in await session.fetch(_TOLD, sorted(posts)):
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
        (post.uri, post.creator, list_uri, post.time) for post in gated.values() for list_uri in rule_lists(post.gate)
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
        stored=Verdict(row["invalidReplyRoot"], row["violatesThreadGate"], row["violatesEmbeddingRules"]),
        value=value,
        gate=orjson.loads(row["gate"] or "{}"),
        root_value=orjson.loads(row["root"]) if row["root"] else None,
        quoted=quoted_post(value),
    )


async def _read_quoted_gates(session: Session, posts: Mapping[str, Post]) -> None:
    by_gate: dict[str, list[Post]] = defaultdict(list)
    for post in posts.values():
        if post.quoted:
            by_gate[post.quoted.replace("/app.bsky.feed.post/", "/app.bsky.feed.postgate/")].append(post)
    if not by_gate:
        return
    for row in await session.fetch(_QUOTED_GATES, sorted(by_gate)):
        for post in by_gate[row["uri"]]:
            if row["since"] <= post.time < row["until"]:
                post.quoted_gate = orjson.loads(row["says"])


# every version that a record is known to have had; the one that is there has no end
_VERSIONS = """(
  SELECT since, until, says FROM {{own}}.life WHERE life.uri = {uri} AND says IS NOT NULL
  UNION ALL
  SELECT "indexedAt", 'never', json FROM {{app}}.record WHERE record.uri = {uri}
)"""
_THREAD_GATE = """replace(coalesce(post."replyRoot", post.uri), '/app.bsky.feed.post/', '/app.bsky.feed.threadgate/')"""
_READ = f"""
SELECT post.uri, post.cid, post.creator, post."indexedAt", post."sortAt", post."replyRoot", post."replyParent",
  post."invalidReplyRoot", post."violatesThreadGate", post."violatesEmbeddingRules", record.json,
  gate.says AS gate, root.says AS root
FROM {{app}}.post
JOIN {{app}}.record ON record.uri = post.uri
LEFT JOIN LATERAL (
  SELECT says FROM {_VERSIONS.format(uri=_THREAD_GATE)} AS version
  WHERE since <= post."indexedAt" AND until > post."indexedAt"
) AS gate ON true
LEFT JOIN LATERAL (
  SELECT says FROM {_VERSIONS.format(uri='post."replyRoot"')} AS version WHERE until > post."indexedAt"
  ORDER BY until LIMIT 1
) AS root ON gate.says IS NOT NULL
WHERE post.uri = ANY($1::text[])
"""
# up from each reply, through what is gone but was there when what hangs on it was written, as long as it is of the same
# thread: found is what is there now, or that a root which is gone had carried it all
_PLACES = """
WITH RECURSIVE chain AS (
  SELECT uri AS post, "replyParent" AS parent, "replyRoot" AS root, "indexedAt" AS time
  FROM {app}.post WHERE uri = ANY($1::text[])
  UNION
  SELECT chain.post, life.parent, chain.root, life.since
  FROM chain JOIN {own}.life ON life.uri = chain.parent AND life.until > chain.time AND life.says IS NOT NULL
    AND life.root = chain.root AND chain.parent <> chain.root
)
SELECT chain.post, NULL AS above, false AS misplaced
FROM chain JOIN {own}.life ON life.uri = chain.parent AND life.until > chain.time AND life.says IS NOT NULL
WHERE chain.parent = chain.root AND life.root IS NULL
UNION
SELECT chain.post, record.uri, coalesce(above."invalidReplyRoot", false)
FROM chain JOIN {app}.record ON record.uri = chain.parent LEFT JOIN {app}.post AS above ON above.uri = record.uri
WHERE CASE chain.parent WHEN chain.root THEN above."replyRoot" IS NULL ELSE above."replyRoot" = chain.root END
"""
# of what stands above a post, the version of that time, or the next that came
_ANCESTORS = """
WITH RECURSIVE above AS (
  SELECT uri AS post, "indexedAt" AS time, "replyParent" AS ancestor, 1 AS height
  FROM {app}.post WHERE uri = ANY($1::text[])
  UNION ALL
  SELECT above.post, above.time, next.parent, height + 1
  FROM above JOIN LATERAL (
    SELECT parent, until FROM {own}.life
    WHERE life.uri = above.ancestor AND until > above.time AND says IS NOT NULL
    UNION ALL
    SELECT post."replyParent", 'never' FROM {app}.post WHERE post.uri = above.ancestor
    ORDER BY until LIMIT 1
  ) AS next ON next.parent IS NOT NULL
  WHERE height < $2
)
SELECT above.post, ancestor FROM above JOIN LATERAL (
  SELECT 1 FROM {app}.post WHERE post.uri = ancestor
  UNION ALL
  SELECT 1 FROM {own}.life WHERE life.uri = ancestor AND until > above.time AND says IS NOT NULL
  LIMIT 1
) AS there ON true
ORDER BY height
"""
_QUOTED_GATES = f"""
SELECT gate.uri, since, until, says
FROM unnest($1::text[]) AS gate(uri) JOIN LATERAL {_VERSIONS.format(uri="gate.uri")} AS version ON true
"""
_TOLD = """
SELECT did, "recordUri", reason, "reasonSubject" FROM {app}.notification WHERE "recordUri" = ANY($1::text[])
"""
_FOLLOWS = """
SELECT post, bool_or(one = replier) AS follows, bool_or(one = author) AS followed
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS asked(post, replier, author, time)
LEFT JOIN LATERAL (
  SELECT one FROM unnest(ARRAY[replier, author], ARRAY[author, replier]) AS pair(one, other) JOIN {app}.follow
    ON follow.creator = one AND "subjectDid" = other AND "indexedAt" <= asked.time
  UNION ALL
  SELECT one FROM unnest(ARRAY[replier, author], ARRAY[author, replier]) AS pair(one, other) JOIN {own}.life
    ON split_part(life.uri, '/', 3) = one AND split_part(life.uri, '/', 4) = 'app.bsky.graph.follow'
    AND since <= asked.time AND until > asked.time AND says::json ->> 'subject' = other
) AS tie ON true
GROUP BY post
"""
_MEMBERS = """
SELECT asked.post, asked.list
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS asked(post, person, list, time)
JOIN {app}.list_item ON "listUri" = asked.list AND "subjectDid" = person AND "indexedAt" <= time
UNION ALL
SELECT asked.post, asked.list
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS asked(post, person, list, time)
JOIN {own}.life ON split_part(life.uri, '/', 3) = split_part(asked.list, '/', 3)
  AND split_part(life.uri, '/', 4) = 'app.bsky.graph.listitem' AND since <= asked.time AND until > asked.time
  AND says::json ->> 'list' = asked.list AND says::json ->> 'subject' = person
"""
