"""The status page as people meet it: in light and dark, on a phone, by keyboard, with hostile names, in every state."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from sluice.status_page import serving
from tests.browser.chromium import Tab, chromium
from tests.metric_pages import page
from tests.waiting import until

HOSTILE = "<img src=x onerror=document.title=1>"


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with chromium(tmp_path) as opened:
        yield opened


class Daemons:
    """Three targets whose pages a test writes, and the status page about them."""

    def __init__(self) -> None:
        now, streams = time.time(), {"firehose_live": (900, 1000), "label_live": (0, 1000), "repo_backfill": (12, 1000)}
        upstream = {
            "ingester_upstream_connected__source_firehose__host_relay.example": 1,
            "ingester_upstream_last_received_timestamp_seconds__source_firehose__host_relay.example": now,
            "ingester_upstream_last_event_timestamp_seconds__source_firehose__host_relay.example": now - 2,
        }
        times = {
            "indexer_last_commit_timestamp_seconds__stream_firehose_live": now,
            "indexer_last_committed_event_timestamp_seconds__stream_firehose_live": now - 3,
        }
        self.pages = {
            "ingester": lambda: page("ingester", streams, ingester_firehose_events_total=self.asked * 10, **upstream),
            "backfiller": lambda: page("backfiller", {"firehose_backfill": (40, 100)}),
            "indexer": lambda: page("indexer", indexer_db_writes_total=self.asked * 7, **times),
        }
        self.ready = "ok\n"
        self.asked = 0

    async def start(self, stack: AsyncExitStack) -> str:
        targets = []
        for kind in self.pages:
            app = web.Application()
            app.router.add_get("/metrics", self._answer(kind))
            app.router.add_get("/readyz", self._is_ready)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            targets.append(f"127.0.0.1:{runner.addresses[0][1]}")
        return await stack.enter_async_context(serving(lambda: targets, "127.0.0.1", 0, 0.05))

    def _answer(self, kind: str):  # type: ignore[no-untyped-def]
        async def answer(_: web.Request) -> web.Response:
            self.asked += 1
            return web.Response(text=self.pages[kind]())

        return answer

    async def _is_ready(self, _: web.Request) -> web.Response:
        return web.Response(text=self.ready, status=200 if self.ready == "ok\n" else 503)


@pytest.fixture
async def daemons() -> Daemons:
    return Daemons()


@pytest.fixture
async def url(daemons: Daemons) -> AsyncIterator[str]:
    async with AsyncExitStack() as stack:
        yield await daemons.start(stack)


async def settled(tab: Tab, state: str) -> None:
    await until(lambda: tab.value(f"document.body.dataset.state === '{state}' && past.at.length > 2"))


OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# the least contrast of any text with what is behind it, by WCAG 2.2; texts in the picture stand on boxes or the card
CONTRAST = """(() => {
  const linear = v => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const lum = c => { const [r, g, b] = c.map(linear); return .2126 * r + .7152 * g + .0722 * b; };
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const ground = it => { for (; it; it = it.parentElement) { const c = rgb(getComputedStyle(it).backgroundColor);
    if (c.length < 4 || c[3] > .9) return c.slice(0, 3); } return [255, 255, 255]; };
  let least = [99, ""];
  for (const it of document.querySelectorAll("h1,h2,p,li,td,th,span,b,footer,text")) {
    if (!it.textContent.trim() || !it.getClientRects().length) continue;
    const style = getComputedStyle(it), ink = rgb(it.tagName === "text" ? style.fill : style.color).slice(0, 3);
    const [a, b] = [lum(ink), lum(ground(it))].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < least[0]) least = [ratio, it.textContent.slice(0, 40)];
  }
  return least;
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1180], ids=["phone", "tablet", "desk"])
async def test_it_fits_and_can_be_read(tab: Tab, url: str, width: int, *, dark: bool) -> None:
    await tab.open(url, width, dark=dark)
    await settled(tab, "ok")
    assert await tab.value(OVERFLOW) <= 0
    ratio, text = await tab.value(CONTRAST)
    assert ratio >= 4.5, text
    shown = await tab.value("document.querySelector('#picture svg').getAttribute('aria-label')")
    assert "firehose_live holds 900 entries" in shown
    assert await tab.value("document.querySelectorAll('#charts section[data-points]').length") == 6
    await tab.picture(f"{width}-{'dark' if dark else 'light'}")


async def test_it_asks_nobody_else_and_complains_of_nothing(tab: Tab, url: str) -> None:
    await tab.open(url)
    await settled(tab, "ok")
    assert [asked for asked in tab.requests if not asked.startswith(url)] == []
    assert [said for said in tab.complaints if "favicon" not in said] == []


async def test_what_hosts_are_called_is_text(tab: Tab, daemons: Daemons, url: str) -> None:
    daemons.pages["ingester"] = lambda: page(
        "ingester", {}, **{f"ingester_upstream_connected__source_x__host_{HOSTILE}": 1}
    )
    daemons.ready = HOSTILE
    await tab.open(url)
    await settled(tab, "trouble")
    assert HOSTILE in await tab.value("document.querySelector('#hosts').textContent")
    assert HOSTILE in await tab.value("document.querySelector('#notes').textContent")
    assert await tab.value("document.querySelectorAll('img').length") == 0
    assert await tab.value("document.title") == "Sluice"


async def test_a_chart_is_read_by_keyboard(tab: Tab, url: str) -> None:
    await tab.open(url)
    await settled(tab, "ok")
    chart = "document.querySelector('#charts svg')"
    assert "ago: from the network" not in await tab.value(f"{chart}.textContent")
    await tab.value(f"{chart}.focus()")
    await tab.press("ArrowLeft")
    assert "ago: from the network" in await tab.value(f"{chart}.textContent")
    reachable = (
        "[...document.querySelectorAll('[tabindex]')].every(it => it.tabIndex === 0 && it.getAttribute('aria-label'))"
    )
    assert await tab.value(reachable)


async def test_a_full_stream_and_a_silent_daemon_show(tab: Tab, daemons: Daemons, url: str) -> None:
    full = {"firehose_live": (1000, 1000)}
    daemons.pages["ingester"] = lambda: page("ingester", full, ingester_backpressure_active=1)
    await tab.open(url)
    await settled(tab, "waiting")
    assert "Writers to firehose_live wait" in await tab.value("document.querySelector('#notes').textContent")
    assert await tab.value("document.querySelectorAll('#picture .paused').length") == 1
    daemons.pages["indexer"] = lambda: "no metrics\n{"
    await settled(tab, "trouble")
    assert "does not run" in await tab.value("document.querySelector('#picture').textContent")


async def test_when_the_server_is_gone_the_page_does_not_pretend(tab: Tab, daemons: Daemons) -> None:
    async with AsyncExitStack() as stack:
        await tab.open(await daemons.start(stack))
        await settled(tab, "ok")
    await until(lambda: tab.value("document.body.dataset.state === 'unknown'"), 40)
    assert await tab.value("document.querySelector('#state').textContent") == "not known"


async def test_motion_stops_for_who_asked_for_calm(tab: Tab, url: str) -> None:
    animated = "getComputedStyle(document.querySelector('#picture .drift')).animationName"
    await tab.open(url)
    await settled(tab, "ok")
    await until(lambda: tab.value("!!document.querySelector('#picture .drift')"))
    assert await tab.value(animated) == "drift"
    await tab.open(url, calm=True)
    await settled(tab, "ok")
    await until(lambda: tab.value("!!document.querySelector('#picture .drift')"))
    assert await tab.value(animated) == "none"
