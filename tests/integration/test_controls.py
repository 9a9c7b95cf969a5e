"""Pausing sources and changing the filter while the ingester runs, and that a restart keeps both."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from common.collection_filter import CollectionFilter
from common.errors import CannotStart
from ingester import controls as controls_module
from ingester.admin import serve_admin
from ingester.controls import COLLECTIONS_KEY, PAUSED_KEY, Controls, LiveFilter
from ingester.switches import HostSource, Switch, reading_key
from sluice.server import free_port
from tests.waiting import until

NAME, KEY = "firehose/relay.example.com", "firehose_live:cursor:relay.example.com"
LIKES, POSTS = "app.bsky.feed.like", "app.bsky.feed.post"


class Reading:
    """A source that does nothing but remember when it was begun and told to end."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def run(self, stop: asyncio.Event) -> None:
        self.log.append("begun")
        await stop.wait()
        self.log.append("ended")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is looked at often."""
    monkeypatch.setattr(controls_module, "LOOK_SECONDS", 0.01)


def controls_of(redis: Redis, reading: Reading) -> Controls:
    source = HostSource("firehose", "relay.example.com", KEY, reading.run)
    return Controls(redis, [Switch(redis, source)], LiveFilter(CollectionFilter((POSTS,))))


@asynccontextmanager
async def running(controls: Controls) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(controls.watch(stop))
        for switch in controls.switches:
            tasks.create_task(switch.run(stop))
        yield
        stop.set()


def has(reading: Reading, *log: str) -> Callable[[], bool]:
    return lambda: reading.log == list(log)


async def test_a_source_that_is_paused_ends_and_goes_on_when_it_is_resumed(redis: Redis) -> None:
    reading = Reading()
    controls = controls_of(redis, reading)
    async with running(controls):
        await until(has(reading, "begun"))
        assert await controls.pause(NAME, paused=True)
        await until(has(reading, "begun", "ended"))
        assert paused() == 1
        assert await controls.pause(NAME, paused=False)
        await until(has(reading, "begun", "ended", "begun"))
        assert paused() == 0
    assert reading.log == ["begun", "ended", "begun", "ended"]


def paused() -> float | None:
    return REGISTRY.get_sample_value("ingester_source_paused", {"source": "firehose", "host": "relay.example.com"})


async def test_a_paused_source_does_not_begin_after_a_restart(redis: Redis) -> None:
    await redis.sadd(PAUSED_KEY, NAME)
    reading = Reading()
    controls = controls_of(redis, reading)
    async with running(controls):
        await until(lambda: controls.switches[0].is_paused)
        await redis.srem(PAUSED_KEY, NAME)  # as another ingester would
        await until(has(reading, "begun"))


async def test_what_is_paused_is_remarked_on(redis: Redis) -> None:
    remarks: list[str] = []
    switch = Switch(redis, HostSource("firehose", "relay.example.com", KEY, Reading().run))
    controls = Controls(redis, [switch], LiveFilter(CollectionFilter((POSTS,))), remarks.append)
    for paused in (True, False):
        await controls.pause(NAME, paused=paused)
    assert remarks == [f"paused: {NAME}", ""]


async def test_a_source_that_is_not_there_cannot_be_paused(redis: Redis) -> None:
    assert not await controls_of(redis, Reading()).pause("firehose/elsewhere", paused=True)
    assert await redis.smembers(PAUSED_KEY) == set()


async def test_while_a_source_is_read_its_cursor_says_so(redis: Redis) -> None:
    reading = Reading()
    controls = controls_of(redis, reading)
    async with running(controls):
        await until(lambda: redis.exists(reading_key(KEY)))
        assert 0 < await redis.ttl(reading_key(KEY)) <= 15
        await controls.pause(NAME, paused=True)
        await until(lambda: _is_gone(redis))
        await controls.pause(NAME, paused=False)
        await until(lambda: redis.exists(reading_key(KEY)))
    assert await _is_gone(redis)


async def _is_gone(redis: Redis) -> bool:
    return not await redis.exists(reading_key(KEY))


async def test_a_fault_of_a_source_is_not_swallowed(redis: Redis) -> None:
    async def faulty(stop: asyncio.Event) -> None:
        raise CannotStart("like this")

    switch = Switch(redis, HostSource("firehose", "relay.example.com", KEY, faulty))
    switch.turn(paused=False)
    with pytest.raises(ExceptionGroup) as caught:
        await switch.run(asyncio.Event())
    assert caught.group_contains(CannotStart, match="like this")


async def test_a_filter_that_is_chosen_holds_until_it_is_taken_back(redis: Redis) -> None:
    controls = controls_of(redis, Reading())
    await controls.choose(CollectionFilter((LIKES, "chat.bsky.*")))
    assert [controls.filter(it) for it in (LIKES, POSTS, "chat.bsky.actor.declaration")] == [True, False, True]
    later = controls_of(redis, Reading())
    await later.look()
    assert (later.filter(LIKES), later.filter(POSTS)) == (True, False)
    await later.choose(None)
    assert (later.filter(LIKES), later.filter(POSTS)) == (False, True)
    await controls.look()
    assert not controls.filter(LIKES)


async def test_a_choice_that_cannot_be_read_changes_nothing(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    controls = controls_of(redis, Reading())
    await redis.set(COLLECTIONS_KEY, "posts")
    for _ in range(2):
        await controls.look()
    assert controls.filter(POSTS)
    assert caplog.text.count("the chosen filter cannot be read") == 1


# the endpoint


class Client:
    """Asks the endpoint."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        async with ClientSession() as http, http.request(method, self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def endpoint(controls: Controls, token: str = "") -> AsyncIterator[Client]:
    port = free_port()
    async with serve_admin(controls, "127.0.0.1", port, token):
        yield Client(f"http://127.0.0.1:{port}")


async def test_the_endpoint_shows_pauses_and_resumes(redis: Redis) -> None:
    await redis.set(KEY, "17")
    controls = controls_of(redis, Reading())
    await controls.look()
    async with endpoint(controls) as client:
        row = {"name": NAME, "paused": False, "connected": None, "cursor": "17"}
        assert await client.ask("GET", "/sources") == (200, {"sources": [row]})
        assert await client.ask("POST", "/sources/pause", {"name": NAME}) == (200, {"name": NAME, "paused": True})
        assert (await client.ask("GET", "/sources"))[1]["sources"][0]["paused"]
        assert await client.ask("POST", "/sources/resume", {"name": NAME}) == (200, {"name": NAME, "paused": False})
        status, answer = await client.ask("POST", "/sources/pause", {"name": "x"})
        assert (status, answer["error"]) == (404, f"no such source; there are: {NAME}")
    assert await redis.smembers(PAUSED_KEY) == set()


async def test_the_endpoint_changes_the_filter(redis: Redis) -> None:
    async with endpoint(controls_of(redis, Reading())) as client:
        setting = {"collections": [POSTS], "setting": [POSTS], "chosen": False}
        assert await client.ask("GET", "/filter") == (200, setting)
        chosen = {"collections": [LIKES], "setting": [POSTS], "chosen": True}
        assert await client.ask("PUT", "/filter", {"collections": [LIKES]}) == (200, chosen)
        assert await client.ask("DELETE", "/filter") == (200, setting)


@pytest.mark.parametrize("body", [None, {}, [], {"collections": []}, {"collections": [5]}, {"collections": ["posts"]}])
async def test_a_filter_of_no_use_is_refused(redis: Redis, body: Any) -> None:
    async with endpoint(controls_of(redis, Reading())) as client:
        assert (await client.ask("PUT", "/filter", body))[0] == 400
    assert await redis.get(COLLECTIONS_KEY) is None


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer sesam"}, {"Authorization": "Bearer sesamé"}])
async def test_without_the_token_nothing_is_shown_or_done(redis: Redis, given: dict[str, str]) -> None:
    async with endpoint(controls_of(redis, Reading()), token="sesame") as client:
        assert (await client.ask("GET", "/sources", **given))[0] == 401
        assert (await client.ask("POST", "/sources/pause", {"name": NAME}, **given))[0] == 401
        assert (await client.ask("GET", "/sources", Authorization="Bearer sesame"))[0] == 200
    assert await redis.smembers(PAUSED_KEY) == set()


@pytest.mark.parametrize("header", [{"Origin": "https://evil.example.com"}, {"Host": "evil.example.com"}])
async def test_without_a_token_a_web_page_gets_nothing(redis: Redis, header: dict[str, str]) -> None:
    async with endpoint(controls_of(redis, Reading())) as client:
        assert (await client.ask("POST", "/sources/pause", {"name": NAME}, **header))[0] == 403
    assert await redis.smembers(PAUSED_KEY) == set()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "ingester"])  # noqa: S104 - refused
async def test_off_loopback_there_must_be_a_token(redis: Redis, host: str) -> None:
    with pytest.raises(CannotStart, match="set INGESTER_ADMIN_TOKEN_FILE as well"):
        async with serve_admin(controls_of(redis, Reading()), host, free_port(), ""):
            raise AssertionError("it listens")


async def test_a_port_that_is_taken_is_said_so(redis: Redis) -> None:
    controls = controls_of(redis, Reading())
    async with endpoint(controls) as client:
        with pytest.raises(CannotStart, match="free it or set INGESTER_ADMIN_PORT"):
            async with serve_admin(controls, "127.0.0.1", int(client.url.rpartition(":")[2]), ""):
                raise AssertionError("it listens")
