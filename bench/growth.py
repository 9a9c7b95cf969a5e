"""Events a second with few and with many records in the tables already.

.venv/bin/python -m bench.growth RECORDING [--records 100000 10000000]

The records that are there are the work of SQL: like those of the recording in kinds, sizes and rows, of people of their
own. 10 million take about 20 minutes and 25 GB of the folder for temporary files.
"""

import asyncio
import time
from functools import partial

import asyncpg

from bench.index import main as index
from bench.index import parser
from bench.machine import load

CHUNK = 500_000
PEOPLE = 100_000
# of a hundred records
LIKES, POSTS, FOLLOWS = 55, 16, 15  # the rest are reposts

_MADE = """
CREATE TEMPORARY TABLE made AS
SELECT *, 'at://' || did || '/' || collection || '/' || rkey AS uri,
  'at://' || other || '/app.bsky.feed.post/' || subject_rkey AS subject, 'bafyrei' || md5(n::text) || md5(rkey) AS cid
FROM (
  SELECT n, 'did:plc:' || substr(md5((n * 7919 % {people})::text), 1, 24) AS did,
    'did:plc:' || substr(md5((n * 104729 % {people})::text), 1, 24) AS other,
    '3k' || lpad(n::text, 11, '0') AS rkey,
    '3k' || lpad((n * 31 % {last} / 100 * 100 + {likes})::text, 11, '0') AS subject_rkey,
    CASE WHEN n % 100 < {likes} THEN 'app.bsky.feed.like' WHEN n % 100 < {likes} + {posts} THEN 'app.bsky.feed.post'
      WHEN n % 100 < {likes} + {posts} + {follows} THEN 'app.bsky.graph.follow' ELSE 'app.bsky.feed.repost' END
      AS collection,
    to_char(timestamp '2024-01-01' + n * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS time
  FROM generate_series({first}::bigint, {last} - 1) AS n
) AS kind
"""
_FILL = (
    """INSERT INTO bsky.record (uri, cid, did, json, "indexedAt", rev) SELECT uri, cid, did, json_build_object(
      '$type', collection, 'createdAt', time, 'text', repeat(md5(n::text), 3),
      'subject', json_build_object('cid', cid, 'uri', subject))::text, time, rkey FROM made""",
    """INSERT INTO bsky."like" (uri, cid, creator, subject, "subjectCid", "createdAt", "indexedAt")
      SELECT uri, cid, did, subject, cid, time, time FROM made WHERE collection = 'app.bsky.feed.like'
      ON CONFLICT DO NOTHING""",
    """INSERT INTO bsky.post (uri, cid, creator, text, "createdAt", "indexedAt", "replyParent")
      SELECT uri, cid, did, repeat(md5(n::text), 3), time, time, CASE WHEN n % 2 = 0 THEN subject END FROM made
      WHERE collection = 'app.bsky.feed.post'""",
    """INSERT INTO bsky.follow (uri, cid, creator, "subjectDid", "createdAt", "indexedAt")
      SELECT uri, cid, did, other, time, time FROM made WHERE collection = 'app.bsky.graph.follow'
      ON CONFLICT DO NOTHING""",
    """INSERT INTO bsky.repost (uri, cid, creator, subject, "subjectCid", "createdAt", "indexedAt")
      SELECT uri, cid, did, subject, cid, time, time FROM made WHERE collection = 'app.bsky.feed.repost'
      ON CONFLICT DO NOTHING""",
    """INSERT INTO bsky.feed_item (uri, cid, type, "postUri", "originatorDid", "sortAt")
      SELECT uri, cid, CASE collection WHEN 'app.bsky.feed.post' THEN 'post' ELSE 'repost' END,
        CASE collection WHEN 'app.bsky.feed.post' THEN uri ELSE subject END, did, time FROM made
      WHERE collection IN ('app.bsky.feed.post', 'app.bsky.feed.repost')""",
    """INSERT INTO bsky.post_agg (uri, "likeCount") SELECT subject, count(*) FROM made
      WHERE collection = 'app.bsky.feed.like' GROUP BY subject ON CONFLICT DO NOTHING""",
    """INSERT INTO bsky.notification (did, author, "recordUri", "recordCid", reason, "reasonSubject", "sortAt")
      SELECT other, did, uri, cid, 'like', subject, time FROM made WHERE collection <> 'app.bsky.feed.post'""",
    """INSERT INTO bsky.actor (did, "indexedAt") SELECT DISTINCT did, '2024-01-01T00:00:00.000Z' FROM made
      ON CONFLICT DO NOTHING""",
    """INSERT INTO bsky.actor_sync (did, "commitCid", "repoRev") SELECT did, max(cid), max(rkey) FROM made GROUP BY did
      ON CONFLICT DO NOTHING""",
)


async def fill(connection: asyncpg.Connection, records: int) -> None:
    started = time.monotonic()
    await connection.execute("SET synchronous_commit = off")
    for first in range(0, records, CHUNK):
        last = min(first + CHUNK, records)
        numbers = {"first": first, "last": last, "people": PEOPLE, "likes": LIKES, "posts": POSTS, "follows": FOLLOWS}
        await connection.execute(_MADE.format(**numbers))
        for statement in _FILL:
            await connection.execute(statement)
        await connection.execute("DROP TABLE made")
    await connection.execute("VACUUM (ANALYZE)")
    await connection.execute("CHECKPOINT")
    size = await connection.fetchval("SELECT pg_size_pretty(pg_database_size(current_database()))")
    print(f"{records:,} records there, {size}, made in {time.monotonic() - started:.0f} s; {load()}", flush=True)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--records", type=int, nargs="+", default=[100_000, 10_000_000])
    given = arguments.parse_args()
    speeds = {}
    for records in given.records:
        speeds[records] = asyncio.run(index(given, partial(fill, records=records)))
    least, most = min(speeds), max(speeds)
    print(f"with {most:,} records {speeds[most] / speeds[least]:.2f} of the speed with {least:,}")
