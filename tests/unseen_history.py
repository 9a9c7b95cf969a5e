"""What a backfill alone cannot know of a recorded network, for whoever compares its rows with the original's.

A repo says what is there, not what was: docs/differences.md lists what follows from that. It concerns these tables
only, and in which of their rows depends on which repo was fetched first; every row of all other tables must be equal.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from common.syntax import authority_of
from tests.expected_rows import Rows

TIMES = ("indexedAt", "sortAt")
# what is judged by posts and gates that may be gone: compared as a table of its own
FLAGS = ("hasPostGate", "hasThreadGate", "invalidReplyRoot", "violatesEmbeddingRules", "violatesThreadGate")

DERIVED = {
    *(
        "duplicate_record",
        "feed_item",
        "notification",
        "op_thread_reply",
        "post flags",
        "post_agg",
        "profile_agg",
        "quote",
    ),
    "actor_sync",  # of an account that was deleted
}
UNSEEN: dict[str, set[str]] = {"basic": set(), "follows": set(), "load-tiny": DERIVED, "full": DERIVED}


def timeless(rows: Mapping[str, Rows]) -> dict[str, Rows]:
    """Without the times at which things were seen; the flags of posts apart from the posts."""
    found: dict[str, Rows] = {"post flags": Counter()}
    for table, lines in rows.items():
        found[table] = Counter()
        for line, count in lines.items():
            row = {name: value for name, value in json.loads(line).items() if name not in TIMES}
            if table == "post":
                flags = {name: row.pop(name) for name in FLAGS}
                found["post flags"][_dumped({"uri": row["uri"], **flags})] += count
            found[table][_dumped(row)] += count
    return found


def tables_of(differences: Iterable[str], away: Collection[str]) -> set[str]:
    """The tables that differ, and not only in rows of accounts that are away, whose hosts give no repo."""
    found = set()
    for line in differences:
        kind, _, row = line.partition("{")
        if _owner(json.loads("{" + row)) not in away:
            found.add(kind[:-2])  # without the sign
    return found


def _owner(row: Mapping[str, Any]) -> str:
    if about := row.get("recordUri") or row.get("originatorDid"):
        return authority_of(about) if about.startswith("at://") else about
    about = row.get("postUri") or row.get("uri")
    return authority_of(about) if about else row["did"]


def _dumped(row: Any) -> str:
    return json.dumps(row, sort_keys=True, ensure_ascii=False)
