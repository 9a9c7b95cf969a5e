"""Dead letters: entries that Postgres refused, in its table dead_letter, and repos that were given up."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import asyncpg
import msgspec
from redis.asyncio import Redis

from backfiller.settings import Settings
from common.errors import BadInput, CannotStart
from common.events import EVENT_FIELD, JOB_FIELD, LABELS_FIELD, RepoJob, decode_job, encode_event
from common.streams import LABEL_LIVE
from indexer.names import Names
from sluice.connecting import connected

REPO, RECORD, FRAME = "repo", "record", "frame"
KINDS = (REPO, RECORD, FRAME)
PAGE = 500


@dataclass(frozen=True)
class Letter:
    """`id` begins with its kind: `repo:1763-0`, `record:42`. `about` is a DID, an at:// URI, or a place in a host's
    stream; `payload` is the entry's, or a frame in base64."""

    id: str
    about: str
    reason: str
    error: str
    since: str
    payload: bytes
    stream: str
    history: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.id.partition(":")[0]

    @property
    def number(self) -> str:
        return self.id.partition(":")[2]


class DeadLetters(Protocol):
    """Those of one kind."""

    kind: str

    def letters(self) -> AsyncIterator[Letter]: ...

    async def replay(self, letter: Letter) -> None:
        """Raises BadInput for a letter that cannot be."""

    async def drop(self, letter: Letter) -> None: ...


class RepoLetters:
    """The stream `repo_backfill_dlq`. A letter that is replayed begins again: no tries, no history."""

    kind = REPO

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings

    async def letters(self) -> AsyncIterator[Letter]:
        """Oldest first; what comes meanwhile is left out, or who replays might never end."""
        newest: Any = await self._redis.xrevrange(self._settings.dlq_stream, count=1)
        after, end = "-", newest[0][0] if newest else "-"
        while True:
            rows: Any = await self._redis.xrange(self._settings.dlq_stream, after, end, PAGE)
            for id, fields in rows:
                yield _repo_letter(id.decode(), fields)
            if not rows:
                return
            after = f"({rows[-1][0].decode()}"

    async def replay(self, letter: Letter) -> None:
        """Raises BadInput for a letter that was no job: there is nothing to do again."""
        job = decode_job(letter.payload)
        stream = self._settings.high_stream if job.priority == "high" else self._settings.backfill_stream
        again = RepoJob(
            did=job.did, host=job.host, rev=job.rev, status=job.status, active=job.active, reason=job.reason,
            priority=job.priority,
        )  # fmt: skip
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(stream, {JOB_FIELD: encode_event(again)})
            pipe.xdel(self._settings.dlq_stream, letter.number)
            await pipe.execute()

    async def drop(self, letter: Letter) -> None:
        await self._redis.xdel(self._settings.dlq_stream, letter.number)


class RecordLetters:
    """The table `dead_letter` of the indexer's schema. A replayed letter goes back to the stream that it came from."""

    kind = RECORD

    def __init__(self, redis: Redis, connection: Any, schema: str) -> None:
        """Raises CannotStart for a schema that cannot be."""
        self._redis = redis
        self._connection = connection
        self._fill = Names(schema).fill

    async def letters(self) -> AsyncIterator[Letter]:
        """Oldest first; what comes meanwhile is left out."""
        after, end = 0, await self._connection.fetchval(self._fill("SELECT max(id) FROM {own}.dead_letter"))
        while rows := await self._connection.fetch(self._fill(_LETTERS), after, end, PAGE):
            for row in rows:
                yield _record_letter(row)
            after = rows[-1]["id"]

    async def replay(self, letter: Letter) -> None:
        """On the stream first, then out of the table: to be interrupted in between changes nothing.

        Raises BadInput("not_storable") for a record: its version is known already, and would not be kept again.
        """
        is_of_labels = letter.stream == LABEL_LIVE
        if letter.reason == "not_storable" and not is_of_labels:
            raise BadInput(letter.reason, letter.error)
        field = LABELS_FIELD if is_of_labels else EVENT_FIELD
        await self._redis.xadd(letter.stream, {field: letter.payload})
        await self.drop(letter)

    async def drop(self, letter: Letter) -> None:
        await self._connection.execute(self._fill("DELETE FROM {own}.dead_letter WHERE id = $1"), int(letter.number))


@asynccontextmanager
async def record_letters(redis: Redis, database_url: str, schema: str) -> AsyncIterator[RecordLetters]:
    """Raises CannotStart."""
    async with connected(database_url) as connection:
        try:
            yield RecordLetters(redis, connection, schema)
        except asyncpg.UndefinedTableError as error:
            raise CannotStart(f"{error}; check DATABASE_SCHEMA, or run sluice migrate") from error


def _repo_letter(id: str, fields: dict[bytes, bytes]) -> Letter:
    payload = fields.get(JOB_FIELD.encode(), b"")
    try:
        job = decode_job(payload)
    except BadInput:
        job = RepoJob(did="")
    texts = {name: fields.get(name, b"").decode(errors="replace") for name in (b"reason", b"error", b"detail")}
    since = datetime.fromtimestamp(int(id.partition("-")[0]) / 1000, UTC).isoformat(timespec="seconds")
    history = () if job.history is msgspec.UNSET else job.history
    error = texts[b"detail"] or texts[b"error"]
    return Letter(f"{REPO}:{id}", job.did, texts[b"reason"], error, since, payload, "", history)


def _record_letter(row: Any) -> Letter:
    about = row["uri"] or row["did"] or ""
    since = row["first_seen"].astimezone(UTC).isoformat(timespec="seconds")
    error = f"{row['sqlstate'] or ''} {row['error']}".strip()
    return Letter(f"{RECORD}:{row['id']}", about, row["reason"], error, since, bytes(row["payload"]), row["stream"])


def chosen(letter: Letter, ids: Sequence[str], reason: str, *, everything: bool) -> bool:
    """Whether a command that names these means this letter. An id may be given without its kind."""
    if ids:
        return letter.id in ids or letter.number in ids
    return everything or (bool(reason) and letter.reason == reason)


_LETTERS = """
SELECT id, stream, did, uri, reason, sqlstate, error, payload, first_seen
FROM {own}.dead_letter WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3
"""
