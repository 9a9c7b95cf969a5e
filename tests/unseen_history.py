"""What a backfill alone cannot know of a recorded network, for whoever compares its rows with the original's.

A repo says what is there, not what was: docs/differences.md lists what follows from that. So a row may differ if it is
about something that was there once and is not in any repo at the end, and for no other reason.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from common.events import CreateEvent, UpdateEvent
from common.syntax import authority_of
from ingester.frames import events_of
from sluice.recording import Recording
from tests.backfilling import leaves
from tests.expected_rows import Rows

TIMES = ("indexedAt", "sortAt")
# what is judged by posts and gates that may be gone: compared as a table of its own
FLAGS = ("hasPostGate", "hasThreadGate", "invalidReplyRoot", "violatesEmbeddingRules", "violatesThreadGate")
OF_A_PERSON = {"actor", "actor_sync", "profile_agg"}
# where a row depends on other records than its own
JUDGED = {"feed_item", "notification", "op_thread_reply", "post flags", "quote"}
Json = dict[str, Any]


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


class Unseen:
    """What a recording tells of records that no repo has at its end; those of accounts that are away among them."""

    def __init__(self, recording: Recording) -> None:
        cars = {repo.did: car for repo in recording.repos if repo.active and (car := recording.car(repo.did))}
        there = {(f"at://{did}/{path}", cid) for did, car in cars.items() for path, cid in leaves(car).items()}
        self._away: set[str] = set()
        self._says: dict[str, Json] = {}
        self._gone: set[str] = set()  # URIs, and claims that were made
        self._named: set[str] = set()  # by what is gone: URIs and people
        for event in _writes(recording):
            value = json.loads(bytes(event.record))
            self._says[event.uri] = value
            self._away |= {event.did} - cars.keys()
            if (event.uri, event.cid) not in there:
                self._gone |= {event.uri, _claim(event.uri, value)}
                self._named |= {event.did, *_strings(value)}

    def explain(self, difference: str) -> bool:
        """Whether a line of expected_rows.differences is as it is because of what is gone."""
        kind, _, text = difference.partition("{")
        table, row = kind[:-2], json.loads("{" + text)
        if table in OF_A_PERSON:
            return row["did"] in self._away or (table == "profile_agg" and row["did"] in self._named)
        if table == "post_agg":
            below = [uri for uri, value in self._says.items() if row["uri"] in _strings(value.get("reply"))]
            return row["uri"] in self._named or any(self._looked_at(uri) & self._gone for uri in below)
        uri = row.get("recordUri") or (row["postUri"] if table.startswith("post_embed") else row["uri"])
        if {authority_of(uri), row.get("did")} & self._away:
            return True
        looked_at = self._looked_at(uri) if table in JUDGED else {uri}
        return bool({_claim(uri, self._says[uri]), *looked_at} & self._gone)

    def _looked_at(self, uri: str) -> set[str]:
        """What the place of a record depends on: the records that it names, with their gates, and what they hang on."""
        found, waiting = set[str](), [uri]
        while waiting:
            one = waiting.pop()
            found |= {one, *(one.replace(".post/", f".{gate}/") for gate in ("threadgate", "postgate"))}
            waiting += {name for name in _strings(self._says.get(one)) if name.startswith("at://")} - found
        return found


def _writes(recording: Recording) -> Iterator[CreateEvent | UpdateEvent]:
    for frame in recording.frames:
        for event in events_of(frame, lambda _: True).events:
            if isinstance(event, CreateEvent | UpdateEvent):
                yield event


def _claim(uri: str, value: Json) -> str:
    """What only one record of a person can say: who likes what, follows whom."""
    return f"{uri.rpartition('/')[0]} says {json.dumps(value.get('subject') or uri)}"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _dumped(row: Any) -> str:
    return json.dumps(row, sort_keys=True, ensure_ascii=False)
