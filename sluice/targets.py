"""Asks the daemons how they are."""

import asyncio
import time
from collections.abc import Iterable

import aiohttp

from common.errors import CannotStart
from sluice.flow import Daemon, Flow, flow_of, kind_of
from sluice.samples import Samples

PATIENCE = aiohttp.ClientTimeout(total=5)


def addresses(targets: Iterable[str]) -> tuple[str, ...]:
    """host:port, and nothing twice, from what people write. Raises CannotStart."""
    found: dict[str, None] = {}
    for target in ",".join(targets).split(","):
        if address := target.strip().removeprefix("http://").partition("/")[0]:
            host, colon, port = address.rpartition(":")
            if not (host and colon and port.isdigit()):
                raise CannotStart(f"target {target.strip()!r}: write host:port, such as indexer1:9090")
            found[address] = None
    if not found:
        raise CannotStart("no target: name the daemons' metrics ports, --target host:port or SLUICE_TARGETS=a:1,b:2")
    return tuple(found)


async def look(http: aiohttp.ClientSession, targets: Iterable[str], *, recorded: bool = False) -> Flow:
    """All of them at once; who does not answer is in it as well, with the reason."""
    daemons = await asyncio.gather(*(_daemon(http, target) for target in targets))
    return flow_of(time.time(), daemons, is_recorded=recorded)


async def _daemon(http: aiohttp.ClientSession, address: str) -> Daemon:
    try:
        samples = await asyncio.to_thread(Samples.of, await _text(http, f"http://{address}/metrics"))
        complaint = (await _text(http, f"http://{address}/readyz")).strip()
    except (aiohttp.ClientError, OSError) as error:
        return Daemon(address, "", f"does not answer: {_reason(error)}")
    except ValueError:
        return Daemon(address, "", "answers, but not with metrics")
    kind = kind_of(samples)
    if not kind:
        return Daemon(address, "", "answers, but is no daemon of sluice")
    return Daemon(address, kind, "" if complaint.startswith("ok") else complaint[:200], samples)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.strerror or "cannot connect"
    return "too slow" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


async def _text(http: aiohttp.ClientSession, url: str) -> str:
    """Raises ClientError, TimeoutError, ValueError."""
    async with http.get(url, timeout=PATIENCE) as answer:
        return await answer.text(encoding="utf-8")
