"""`sluice explain`: the story of one account or one record, from the tables and streams of a deployment."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from backfiller.ledger import Ledger
from backfiller.outcomes import DONE
from backfiller.parking import parked_key
from common.errors import CannotStart
from common.redis_connection import open_redis
from common.repo_states import RepoStates
from common.settings import load
from common.streams import REPO_BACKFILL, REPO_BACKFILL_DLQ, REPO_BACKFILL_HIGH
from common.syntax import authority_of, collection_of, is_did, utc_text
from indexer.names import Names
from indexer.records import HANDLERS
from indexer.settings import Settings
from sluice.connecting import connected
from sluice.tables import plain_table, standard_output

MOST_LETTERS = 20
# what the letters of common/chain.py stand for
CHAIN = {
    "n": "nothing known but the account",
    "w": "whole",
    "W": "whole, by a snapshot ahead of the stream",
    "f": "followed since a commit, never fetched",
    "c": "out of step: a broken chain",
    "s": "out of step: a #sync with another root",
    "r": "out of step: the account came back",
    "u": "out of step: the account is said to be desynchronised",
    "v": "out of step: a commit that could not be verified",
}
ACCOUNT = {"+": "active", "-": "inactive", "m": "inactive, and commits came all the same"}
MOST_READ = 10_000  # entries of the dead-letter stream that are looked through
Section = list[dict[str, Any]]

# Each is asked with the DID, by a key or an index.
_OF_ACCOUNT = {
    "account": 'SELECT did, handle, "upstreamStatus", "takedownRef", "indexedAt" FROM {app}.actor WHERE did = $1',
    "repo": "SELECT floor_rev, account_time, identity_time FROM {own}.repo WHERE did = $1",
    "records": """
        SELECT split_part(uri, '/', 4) AS collection, count(*) AS records, max(rev) AS newest_rev
        FROM {app}.record WHERE did = $1 GROUP BY 1 ORDER BY 1""",
    "deleted records remembered": """
        SELECT split_part(uri, '/', 4) AS collection, count(*) AS records, max(rev) AS newest_rev
        FROM (SELECT uri, rev FROM {own}.tombstone WHERE did = $1
              UNION ALL SELECT uri, rev FROM {own}.life
              WHERE deleted AND uri >= 'at://' || $1 || '/' AND uri < 'at://' || $1 || '0') AS gone
        GROUP BY 1 ORDER BY 1""",
    "snapshots on their way": "SELECT rev, records, seen::text, collections FROM {own}.snapshot WHERE did = $1",
    "waits for": """
        SELECT 'its handle' AS what, due_at, attempts FROM {own}.handle_check WHERE did = $1
        UNION ALL SELECT 'a look whether it is deleted', due_at, attempts FROM {own}.deletion_check WHERE did = $1
        UNION ALL SELECT 'a backfill', due_at, attempts FROM {own}.resync WHERE did = $1""",
    "labels": "SELECT src, val, neg, cts FROM {app}.label WHERE uri = $1 ORDER BY src, val",
}
# Each is asked with the URI.
_OF_RECORD = {
    "record": """
        SELECT cid, rev, "indexedAt", "takedownRef", length(json) AS characters FROM {app}.record WHERE uri = $1""",
    "deleted": "SELECT rev FROM {own}.tombstone WHERE uri = $1",
    "versions that are gone": "SELECT rev, since, until, deleted FROM {own}.life WHERE uri = $1 ORDER BY rev",
    "lost to an earlier one": 'SELECT "duplicateOf", "indexedAt" FROM {app}.duplicate_record WHERE uri = $1',
    "without a place in its thread yet": "SELECT root FROM {own}.unplaced WHERE uri = $1",
    "counts": 'SELECT "likeCount", "repostCount", "replyCount", "quoteCount" FROM {app}.post_agg WHERE uri = $1',
    "notifications": """
        SELECT reason, count(*) AS sent FROM {app}.notification WHERE "recordUri" = $1 GROUP BY 1 ORDER BY 1""",
    "labels": "SELECT src, val, neg, cts FROM {app}.label WHERE uri = $1 ORDER BY src, val",
}
_LETTERS = f"""
    SELECT id, stream, entry_id, uri, reason, sqlstate, error, first_seen FROM {{own}}.dead_letter
    WHERE did = $1 AND ($2 = '' OR uri = $2) ORDER BY id DESC LIMIT {MOST_LETTERS}"""


async def run(environ: Mapping[str, str], what: str, *, as_json: bool) -> int:
    """The answer: 0 if anything is known, 1 if nothing is. Raises CannotStart."""
    settings = load(Settings, environ, prefix="INDEXER_")
    async with connected(settings.database_url) as connection, open_redis(settings.redis_url) as redis:
        story = await _story(connection, Names(settings.database_schema), what)
        story |= await _jobs(redis, story["did"])
    (_print_json if as_json else _print)(story)
    return 0 if any(isinstance(value, list) for value in story.values()) else 1


async def _story(connection: Any, names: Names, what: str) -> dict[str, Any]:
    """`did`, `uri` where one was asked for, and what is known, section by section. Raises CannotStart."""
    did = await _did(connection, names, authority_of(what) or what)
    uri = f"at://{did}/{what.split('/', 3)[3]}" if what.count("/") == 4 else ""
    questions, key = (_OF_RECORD, uri) if uri else (_OF_ACCOUNT, did)
    story: dict[str, Any] = {"did": did, **({"uri": uri} if uri else {})}
    try:
        for title, question in questions.items():
            _tell(story, title, await connection.fetch(names.fill(question), key))
        if uri:
            _tell(story, "rows", await _rows(connection, names, uri))
        _tell(story, "dead letters", await connection.fetch(names.fill(_LETTERS), did, uri))
    except asyncpg.UndefinedTableError as error:
        raise CannotStart(f"{error}: is DATABASE_SCHEMA right, and has `sluice migrate` run?") from error
    return story


async def _did(connection: Any, names: Names, who: str) -> str:
    """Of a DID or a handle. Raises CannotStart."""
    if is_did(who):
        return who
    found = await connection.fetchval(
        names.fill("SELECT did FROM {app}.actor WHERE handle = $1"), who.lower().lstrip("@")
    )
    if not found:
        raise CannotStart(f"{who!r} is neither a DID, nor an at:// URI, nor a handle that an indexed account has")
    return str(found)


async def _rows(connection: Any, names: Names, uri: str) -> Section:
    """How many rows of each table came from this record."""
    handler = HANDLERS.get(collection_of(uri))
    found = []
    for table in handler.tables if handler else ():
        question = names.fill(f'SELECT count(*) FROM {{app}}."{table.name}" WHERE "{table.owner}" = $1')
        if number := await connection.fetchval(question, uri):
            found.append({"table": table.name, "rows": number})
    return found


async def _jobs(redis: Redis, did: str) -> dict[str, Any]:
    """What Redis knows of the repo: its chain, its last backfill, and jobs. If it does not answer, that is said."""
    story: dict[str, Any] = {}
    try:
        (state,) = await RepoStates(redis).read([did])
        (outcome,) = await Ledger(redis, REPO_BACKFILL).known_of([did])
        parked = [
            json.loads(job)
            for stream in (REPO_BACKFILL_HIGH, REPO_BACKFILL)
            async for job, _ in redis.zscan_iter(parked_key(stream), match=f'*"{did}"*')
        ]
        buried: Any = await redis.xrevrange(REPO_BACKFILL_DLQ, count=MOST_READ)
    except (RedisError, OSError) as error:
        return {"jobs": f"redis does not answer: {error}"}
    if state:
        seen = {"rev": state.rev, "chain": CHAIN.get(state.status, state.status), "account": ACCOUNT[state.account]}
        _tell(story, "what the ingester knows", [seen])
    if outcome:
        known = asdict(outcome)
        if known["outcome"] == DONE:
            del known["note"]  # of the collections it was done with, as a number
        known["at"] = utc_text(datetime.fromtimestamp(known.pop("at_ms") / 1000, UTC))
        _tell(story, "its last backfill", [known])
    _tell(story, "jobs that wait for their next try", parked)
    quoted = f'"{did}"'.encode()
    letters = [
        {"entry": entry.decode(), **_texts(fields)} for entry, fields in buried if quoted in b"".join(fields.values())
    ]
    _tell(story, "jobs given up", letters[:MOST_LETTERS])
    return story


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode(errors="replace") for name, value in fields.items()}


def _tell(story: dict[str, Any], title: str, rows: Any) -> None:
    """Only what there is."""
    if found := [{name: value for name, value in dict(row).items() if value is not None} for row in rows]:
        story[title] = found


def _print_json(story: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(story, default=str) + "\n")


def _print(story: Mapping[str, Any]) -> None:
    console = standard_output()
    console.print(story.get("uri", story["did"]), style="bold", highlight=False)
    sections = {title: rows for title, rows in story.items() if isinstance(rows, list)}
    for title, rows in sections.items():
        columns = list(dict.fromkeys(name for row in rows for name in row))
        table = plain_table(*columns, title=title)
        for row in rows:
            table.add_row(*(str(row.get(column, "")) for column in columns))
        console.print("", table, highlight=False)
    if isinstance(story.get("jobs"), str):
        console.print(story["jobs"], style="yellow", highlight=False)
    if not sections:
        console.print("nothing is known of it: no event, no job, no dead letter", highlight=False)
