"""The rows that the original indexer wrote for a recording, to compare ours with.

What may differ is named in docs/differences.md, and here in the same words; everything else must be equal.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import zstandard

EXPECTED = Path(__file__).parent / "data" / "expected"
Rows = Counter[str]  # each row as JSON with sorted keys, and how often it is there

# columns that follow the clock or a counter of whoever writes
LEFT_OUT = {"notification": {"id"}, "record": {"rev"}}
# text columns that hold JSON: compared by what they say, not by the order of their keys
JSON_TEXT = {("record", "json"), ("private_data", "payload"), ("draft", "payload")}


async def rows_of(connection: asyncpg.Connection, schema: str = "bsky") -> dict[str, Rows]:
    """Every table of the AppView's that holds something."""
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    found: dict[str, Rows] = {}
    for (table,) in tables:
        if not table.startswith("kysely_"):
            rows = await connection.fetch(f'SELECT to_jsonb(t)::text FROM "{schema}"."{table}" AS t')
            found[table] = Counter(_line(table, json.loads(row[0])) for row in rows)
    return _without_clocks({table: rows for table, rows in found.items() if rows})


def expected_rows(recording: str) -> dict[str, Rows]:
    """As the original left them."""
    with (EXPECTED / f"{recording}.jsonl.zst").open("rb") as packed:
        text = zstandard.ZstdDecompressor().stream_reader(packed).read().decode()
    found: dict[str, Rows] = {}
    for line in text.split("\n")[:-1]:
        table, _, row = line.partition("\t")
        found.setdefault(table, Counter())[_line(table, json.loads(row))] += 1
    return _without_clocks(found)


def differences(ours: Mapping[str, Rows], expected: Mapping[str, Rows]) -> list[str]:
    """What only one side has, as `table -row` (expected, not there) and `table +row` (there, not expected)."""
    found = []
    for table in sorted(ours.keys() | expected.keys()):
        mine, theirs = ours.get(table, Counter()), expected.get(table, Counter())
        found += [f"{table} -{row}" for row in sorted((theirs - mine).elements())]
        found += [f"{table} +{row}" for row in sorted((mine - theirs).elements())]
    return found


@dataclass(frozen=True)
class Explained:
    """Differences that docs/differences.md tells of: lines of this kind that hold this text, so many of them."""

    kind: str  # as `table -` or `table +`
    text: str
    why: str
    times: int = 1


_RENEWED = "an edit to another subject tells the new one"
_NEXT_ONE = "the next duplicate takes over, whole"
_DELETED = "an account is deleted, and what it counted with it"
ON_PURPOSE = {
    "full": (
        Explained("label +", "did:plc:qm3gehfdne3vkvjlssewzvuh", "the original leaves labels to others", 5),
        Explained("duplicate_record -", "app.bsky.graph.verification/3n2rng57zxs22", _NEXT_ONE),
        Explained("duplicate_record -", "app.bsky.graph.listblock/3n2rng4j4l222", _NEXT_ONE),
        Explained("notification +", "app.bsky.graph.verification/3n2rng57zxs22", _NEXT_ONE),
        Explained("notification -", "app.bsky.graph.follow/3n2rng3q2ss22", _RENEWED),
        Explained("notification +", "app.bsky.graph.follow/3n2rng3q2ss22", _RENEWED),
        Explained("notification -", "app.bsky.feed.like/3n2rng3c4jk22", _RENEWED),
        Explained("notification +", "app.bsky.feed.like/3n2rng3c4jk22", _RENEWED),
        Explained("feed_item -", "did:plc:ihuyx4l5x2ixtbbahc5oaro6/app.bsky.feed.post/3n2rngcawkj22", _DELETED),
        Explained("post_agg -", "3n2rnfkb25c22", _DELETED),
        Explained("post_agg +", "3n2rnfkb25c22", _DELETED),
        Explained("profile_agg -", "did:plc:ihuyx4l5x2ixtbbahc5oaro6", _DELETED),
        Explained("profile_agg +", "did:plc:ihuyx4l5x2ixtbbahc5oaro6", _DELETED),
    ),
    "load-tiny": (
        Explained("duplicate_record -", "app.bsky.feed.like/3mfxgnzioczbf", _NEXT_ONE),
        Explained("notification -", "app.bsky.feed.like/3mfxgnzfazdbf", _NEXT_ONE),
        Explained("notification +", "app.bsky.feed.like/3mfxgnzioczbf", _NEXT_ONE),
    ),
}


def unexplained(recording: str, found: Iterable[str]) -> list[str]:
    """Of these differences those that are not on purpose; and of those on purpose, the ones that are not there."""
    left = list(found)
    for each in ON_PURPOSE.get(recording, ()):
        meant = [line for line in left if line.startswith(each.kind) and each.text in line]
        left = [line for line in left if line not in meant]
        if len(meant) != each.times:
            left.append(f"{each.kind}{each.text}: {len(meant)} and not {each.times}, although {each.why}")
    return left


def _line(table: str, row: dict[str, Any]) -> str:
    for column in LEFT_OUT.get(table, ()):
        row.pop(column, None)
    for column in [column for of, column in JSON_TEXT if of == table]:
        row[column] = _parsed(row[column])
    return _dumped(row)


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _dumped(row: Any) -> str:
    return json.dumps(row, sort_keys=True, ensure_ascii=False)


def _without_clocks(rows: dict[str, Rows]) -> dict[str, Rows]:
    """Values that the original takes from its own clock become a word."""
    records = {(row := json.loads(line))["uri"]: row["json"] for line in rows.get("record", ())}

    def masked(table: str, row: dict[str, Any]) -> dict[str, Any]:
        if table == "profile" and "createdAt" not in records.get(row["uri"], {}):
            return row | {"createdAt": "<now>"}
        if table == "notification" and row["reason"] == "unverified":
            return row | {"sortAt": "<now>"}
        if table == "op_thread_reply" and row["deletedAt"] is not None:
            return row | {"deletedAt": "<set>"}
        return row

    return {
        table: Counter({_dumped(masked(table, json.loads(line))): count for line, count in found.items()})
        if table in ("profile", "notification", "op_thread_reply")
        else found
        for table, found in rows.items()
    }
