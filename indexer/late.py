"""Which posts a batch puts in another light, though they were settled before."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import orjson

from common.errors import BadInput
from common.events import SEQ_BACKFILL, CreateEvent, RecordEvent, UpdateEvent, WrittenEvent
from common.syntax import collection_of, utc_text
from indexer.batch import Batch
from indexer.lexicon_formats import normalised
from indexer.lives import GATES, POST, POST_GATE, REMEMBERED, THREAD_GATE
from indexer.session import Session, columns
from indexer.threads import TOLD_ANCESTORS


async def late_posts(session: Session, batch: Batch, gone: Mapping[str, str]) -> list[str]:
    """Posts that may have been settled before something that they depend on, nearest first.

    In the order of the network nothing comes late, and what a batch tells concerns only what is written from then on.
    `gone`: what its snapshots do not have, and since when.
    """
    news = _news(batch, gone)
    if not news:
        return []
    arguments = [part for collection in REMEMBERED for part in _columns_of(news, collection)]
    return [row["uri"] for row in await session.fetch(_LATE, *arguments, TOLD_ANCESTORS)]


def uris_of(batch: Batch, collection: str) -> list[str]:
    return sorted(uri for uri in batch.newest if collection_of(uri) == collection)


async def gone_with_snapshots(session: Session, batch: Batch) -> dict[str, str]:
    """What others are judged by and the snapshots of this batch, as far as they are whole, do not have: since when."""
    dids = sorted((did, rev) for did, rev, _ in batch.snapshots)
    found = await session.fetch(_GONE, *columns(dids)) if dids else ()
    return {row["uri"]: row["since"] for row in found}


def _news(batch: Batch, gone: Mapping[str, str]) -> dict[str, str]:
    """What others are judged by: the time from which on they may have to be judged anew.

    A post that comes also concerns those that were written below it before.
    """
    news = dict(gone)
    for event in _events(batch):
        if event.collection in REMEMBERED:
            time = _from_when(event)
            news[event.uri] = min(time, news.get(event.uri, time))
    return news


def _events(batch: Batch) -> Iterator[RecordEvent]:
    items: Iterable[object] = (item.event for item in (*batch.newest.values(), *batch.superseded))
    return (event for event in items if isinstance(event, RecordEvent))


def _from_when(event: RecordEvent) -> str:
    """Before its live event came, a record may have been taken to be as old as it says (dating.py).

    Whom a follow or list item lets in is found among the forbidden, however old it is.
    """
    time = normalised(event.time)
    if not isinstance(event, CreateEvent | UpdateEvent):
        return time
    if event.collection == POST:
        return ""
    if event.collection in GATES:
        return min(time, _written_at(event))
    return time if event.seq == SEQ_BACKFILL else max(min(time, _written_at(event)), _day_before(time))


def _written_at(event: WrittenEvent) -> str:
    """As the record says; empty if it is none."""
    try:
        return normalised(orjson.loads(bytes(event.record))["createdAt"])
    except (orjson.JSONDecodeError, LookupError, TypeError, BadInput):
        return ""


def _day_before(time: str) -> str:
    """A follow that says to be older than that is not believed: all replies since then would be judged anew."""
    try:
        return utc_text(datetime.fromisoformat(time) - timedelta(days=1))
    except OverflowError:
        return time  # the calendar begins here


def _columns_of(news: dict[str, str], collection: str) -> tuple[list[str], list[str]]:
    uris = sorted(uri for uri in news if collection_of(uri) == collection)
    return uris, [news[uri] for uri in uris]


_GONE = """
SELECT uri, since FROM unnest($1::text[], $2::text[]) AS snapshot(did, rev) JOIN {own}.life
  ON uri >= 'at://' || did || '/' AND uri < 'at://' || did || '0' AND life.rev = snapshot.rev AND says IS NULL
"""
# the replies of a post, those that are gone included: below them others may stand that are there
_REPLIES = """(
  SELECT post.uri, post."indexedAt" AS time, false AS is_gone FROM {{app}}.post WHERE "replyParent" = {above}
  UNION ALL
  SELECT life.uri COLLATE "default", since, true FROM {{own}}.life WHERE parent = {above}
)"""
_POSTS_OF = f"forbidden.uri >= 'at://' || {{who}} || '/{POST}/' AND forbidden.uri < 'at://' || {{who}} || '/{POST}0'"
_MOST = 100  # of what is gone, one below the other

# An index serves only one collation: all URIs and DIDs here have that of the posts. Found are replies below a post, as
# far up as posts tell; replies in a thread whose gate this is, or whose root may name whom its gate lets in, and those
# that hang on nothing there; quotes of the post of a gate, which may be lost with it; replies between two people of
# whom one follows the other; replies of somebody on a list; and of these two, whatever their age, those that are
# forbidden. Tables that come and go are read by key (OFFSET 0), however small they were when the plan was made
_LATE = f"""
WITH RECURSIVE changed AS (SELECT * FROM unnest($1::text[], $2::text[]) AS changed(uri, news)),
below AS (
  SELECT next.uri, next.time, is_gone, changed.news, 1 AS depth
  FROM changed JOIN LATERAL {_REPLIES.format(above="changed.uri")} AS next ON true
  UNION
  SELECT next.uri, next.time, next.is_gone, news, depth + 1
  FROM below JOIN LATERAL {_REPLIES.format(above="below.uri")} AS next ON true
  WHERE depth < CASE WHEN below.is_gone THEN {_MOST} ELSE $11 END
),
thread AS (
  SELECT replace(gate.uri, '/{THREAD_GATE}/', '/{POST}/') AS uri, news
  FROM unnest($3::text[], $4::text[]) AS gate(uri, news)
  UNION
  SELECT changed.uri, news
  FROM changed JOIN LATERAL (
    SELECT 1 FROM {{app}}.record WHERE record.uri = replace(changed.uri, '/{POST}/', '/{THREAD_GATE}/')
    UNION ALL
    SELECT 1 FROM {{own}}.life WHERE life.uri = replace(changed.uri, '/{POST}/', '/{THREAD_GATE}/')
  ) AS gate ON true
),
gated AS (
  SELECT uri, NULL::varchar AS time, true AS is_gone, news FROM thread
  UNION
  SELECT next.uri, next.time, next.is_gone, news
  FROM gated JOIN LATERAL {_REPLIES.format(above="gated.uri")} AS next ON true
),
follow AS (
  SELECT creator AS one, "subjectDid" AS other, news
  FROM unnest($7::text[], $8::text[]) AS changed(uri, news) JOIN {{app}}.follow ON follow.uri = changed.uri
  UNION
  SELECT split_part(life.uri, '/', 3) COLLATE "default", says::json ->> 'subject', news
  FROM unnest($7::text[], $8::text[]) AS changed(uri, news) JOIN {{own}}.life ON life.uri = changed.uri
  WHERE says IS NOT NULL
),
tie AS (
  SELECT one AS person, other, news FROM follow
  UNION ALL
  SELECT other, one, news FROM follow
),
listed AS (
  SELECT "subjectDid" AS person, news
  FROM unnest($9::text[], $10::text[]) AS changed(uri, news) JOIN {{app}}.list_item ON list_item.uri = changed.uri
  UNION
  SELECT says::json ->> 'subject', news
  FROM unnest($9::text[], $10::text[]) AS changed(uri, news) JOIN {{own}}.life ON life.uri = changed.uri
  WHERE says IS NOT NULL
),
let_in AS (
  SELECT forbidden.uri FROM tie JOIN {{own}}.forbidden ON {_POSTS_OF.format(who="person")}
    JOIN {{app}}.post ON post.uri = forbidden.uri COLLATE "default"
  WHERE starts_with("replyRoot", 'at://' || other || '/')
  UNION
  SELECT forbidden.uri FROM listed JOIN {{own}}.forbidden ON {_POSTS_OF.format(who="person")}
),
found AS (
  SELECT uri COLLATE "default" AS uri, 0 AS depth FROM let_in
  UNION ALL
  SELECT uri, depth FROM below WHERE NOT is_gone AND time >= news
  UNION ALL
  SELECT uri, 0 FROM gated WHERE NOT is_gone AND time >= news
  UNION ALL
  SELECT post.uri, 0 FROM thread JOIN LATERAL (
    SELECT uri COLLATE "default" AS uri FROM {{own}}.unplaced WHERE root = thread.uri OFFSET 0
  ) AS reply ON true JOIN {{app}}.post ON post.uri = reply.uri AND post."indexedAt" >= news
  UNION ALL
  SELECT quote.uri, 0 FROM unnest($5::text[], $6::text[]) AS gate(uri, news) JOIN {{app}}.quote
    ON quote.subject = replace(gate.uri, '/{POST_GATE}/', '/{POST}/') AND quote."indexedAt" >= news
  UNION ALL
  SELECT post.uri, 0 FROM unnest($5::text[], $6::text[]) AS gate(uri, news) JOIN LATERAL (
    SELECT uri COLLATE "default" AS uri FROM {{own}}.lost
    WHERE subject = replace(gate.uri, '/{POST_GATE}/', '/{POST}/') OFFSET 0
  ) AS quote ON true JOIN {{app}}.post ON post.uri = quote.uri AND post."indexedAt" >= news
  UNION ALL
  SELECT post.uri, 0 FROM tie JOIN {{app}}.post ON post.creator = person AND post."sortAt" >= news
  WHERE starts_with(post."replyRoot", 'at://' || other || '/')
  UNION ALL
  SELECT post.uri, 0 FROM listed JOIN {{app}}.post ON post.creator = person AND post."sortAt" >= news
  WHERE post."replyRoot" IS NOT NULL
)
SELECT uri FROM found GROUP BY uri ORDER BY min(depth), uri
"""
