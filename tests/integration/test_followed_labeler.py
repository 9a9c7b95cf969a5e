"""A labeler that is set by its DID is read where its document says, and followed when it moves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from common import identity
from common.daemon import Service
from common.errors import BadInput
from ingester import followed_labeler
from ingester.accounts import LABELER as SOURCE
from ingester.accounts import Account
from ingester.followed_labeler import FollowedLabeler
from ingester.upstream import Upstream
from sluice.network import RecordedNetwork
from tests.directory import Directory, identities
from tests.ingesting import StartIngester, host, until_metric
from tests.labelers import LABELER, document
from tests.recorded_network import StartNetwork
from tests.signed_repos import Signer
from tests.waiting import until

SIGNER = Signer()
KEY = f"label_live:cursor:{LABELER}"
HERE, THERE = "https://here.example.com", "https://there.example.com"


class Readers:
    """What is begun and ended where; `forbidden` may not be asked."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.forbidden = ""

    def at(self, home: Upstream) -> Service:
        if home.http_url == self.forbidden:
            raise BadInput("forbidden_url", home.host)

        async def read(stop: asyncio.Event) -> None:
            self.log.append(f"begun at {home.host}")
            await stop.wait()
            self.log.append(f"ended at {home.host}")

        return read


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Directory:
    """Knows the labeler here. It is asked again and again."""
    monkeypatch.setattr(followed_labeler, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(followed_labeler, "RECHECK_SECONDS", 0.01)
    monkeypatch.setattr(identity, "REFRESH_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(identity, "NOT_FOUND_KEPT_SECONDS", 0.0)
    monkeypatch.setattr(identity, "FAILURE_KEPT_SECONDS", 0.0)
    return Directory({LABELER: document(SIGNER, endpoint=HERE)})


@asynccontextmanager
async def following(redis: Redis, directory: Directory, readers: Readers) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        resolver = await stack.enter_async_context(identities(directory))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        labeler = FollowedLabeler(redis, resolver, LABELER, cursor_key=KEY, account=Account(SOURCE), read_at=readers.at)
        tasks.create_task(labeler.run(stop))
        yield
        stop.set()


async def test_a_labeler_that_moves_is_read_at_its_new_host_from_the_first_label(
    redis: Redis, directory: Directory
) -> None:
    readers = Readers()
    async with following(redis, directory, readers):
        await until(lambda: readers.log == ["begun at here.example.com"])
        await redis.set(KEY, 17)
        directory.answers[LABELER] = document(SIGNER, endpoint=THERE)
        await until(lambda: readers.log[1:] == ["ended at here.example.com", "begun at there.example.com"])
        assert await redis.get(KEY) is None
    assert readers.log[3:] == ["ended at there.example.com"]


async def test_at_the_same_host_a_restart_goes_on_from_the_cursor(redis: Redis, directory: Directory) -> None:
    for _ in range(2):
        readers = Readers()
        async with following(redis, directory, readers):
            await until(lambda: readers.log)  # noqa: B023 - awaited at once
        await redis.set(KEY, 17)
    assert await redis.get(KEY) == b"17"


async def test_a_cursor_that_was_set_before_the_first_start_is_where_it_begins(
    redis: Redis, directory: Directory
) -> None:
    await redis.set(KEY, 17)
    readers = Readers()
    async with following(redis, directory, readers):
        await until(lambda: readers.log)
        assert await redis.get(KEY) == b"17"


@pytest.mark.parametrize("answer", [404, 500, document(SIGNER, endpoint=""), document(SIGNER, endpoint="https://a_b")])
async def test_while_nobody_knows_where_it_is_it_is_where_it_was(
    redis: Redis, directory: Directory, answer: Any
) -> None:
    readers = Readers()
    async with following(redis, directory, readers):
        await until(lambda: readers.log)
        directory.answers[LABELER] = answer
        asked = directory.requests[LABELER]
        await until(lambda: directory.requests[LABELER] > asked + 3)
    assert readers.log == ["begun at here.example.com", "ended at here.example.com"]


@pytest.mark.parametrize("answer", [404, 500, document(SIGNER, endpoint="")])
async def test_a_labeler_that_is_nowhere_yet_is_waited_for(redis: Redis, directory: Directory, answer: Any) -> None:
    readers = Readers()
    directory.answers[LABELER] = answer
    async with following(redis, directory, readers):
        await until(lambda: directory.requests[LABELER] > 2)
        assert readers.log == []
        directory.answers[LABELER] = document(SIGNER, endpoint=HERE)
        await until(lambda: readers.log)


async def test_a_host_that_may_not_be_asked_is_not_asked(redis: Redis, directory: Directory) -> None:
    readers = Readers()
    readers.forbidden = HERE
    async with following(redis, directory, readers):
        await until(lambda: directory.requests[LABELER] > 2)
        assert readers.log == []


async def test_a_recorded_labeler_is_found_by_its_did(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    (did,) = [did for did, it in served.recording.dids.items() if any("abeler" in s["id"] for s in it["service"])]
    environ = {"INGESTER_MODE": "labeler", "PLC_URL": served.url, "OUTBOUND_ALLOW": host(served)}
    daemon = await ingester(served, INGESTER_LABELER_HOSTS=did, **environ)
    wanted = served.recording.count_operations().labels
    metrics = await until_metric(daemon, "written_total source=labeler", lambda labels: labels == wanted)
    assert await redis.get(f"label_live:cursor:{did}") == str(served.recording.last_label_seq).encode()
    assert (metrics.unaccounted, metrics["upstream_connected host=by-did-1"]) == (0, 1)


async def test_a_document_leads_to_no_private_address(
    redis: Redis, network: StartNetwork, ingester: StartIngester
) -> None:
    served = await network("full")
    (did,) = [did for did, it in served.recording.dids.items() if any("abeler" in s["id"] for s in it["service"])]
    async with AsyncExitStack() as stack:
        elsewhere = await stack.enter_async_context(RecordedNetwork(served.recording))
        served.lives_at = elsewhere.url  # nobody has allowed this one
        environ = {"INGESTER_MODE": "labeler", "PLC_URL": served.url, "OUTBOUND_ALLOW": host(served)}
        daemon = await ingester(served, INGESTER_LABELER_HOSTS=did, **environ)
        await until_metric(daemon, "errors_by_reason_total reason=no_did_document", lambda errors: errors > 1)
        assert elsewhere.requests == {}
