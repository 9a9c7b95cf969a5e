"""The real daemons on a recorded network that happens now: replicas of those that have some, a flow that lasts."""

import re
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from sluice.demo import Servers, Stage, set_stage
from sluice.network import RecordedNetwork
from sluice.pipeline import Pipeline, Upstream, Wiring
from sluice.recording import Frames, Recording

INDEXERS, BACKFILLERS = 3, 2
MEMORY_LIMIT = 512 << 20
# the key `time` of a frame, and a text of 24 characters behind it (RFC 8949, 3.1)
_TIME = re.compile(rb"(\x64time\x78\x18).{24}", re.DOTALL)


@dataclass(frozen=True)
class Play:
    pipeline: Pipeline
    network: RecordedNetwork
    stage: Stage

    def targets(self) -> dict[str, list[str]]:
        """Service -> host:port of its daemons."""
        found: dict[str, list[str]] = {}
        for daemon in self.pipeline.daemons:
            found.setdefault(daemon.name.partition("-")[0], []).append(daemon.url.removeprefix("http://"))
        return found

    def begin(self) -> None:
        """Frames are sent and repos served from now on."""
        self.network.firehose.resume()
        self.network.faults.serving_repos.set()

    async def stop_indexer(self, number: int) -> str:
        """Its address."""
        (daemon,) = [daemon for daemon in self.pipeline.daemons if daemon.name == f"indexer-{number}"]
        self.pipeline.daemons.remove(daemon)
        await daemon.stop()
        return daemon.url.removeprefix("http://")


@asynccontextmanager
async def playing(path: Path, *, pace: float, settings: Mapping[str, str] | None = None) -> AsyncIterator[Play]:
    """Live and backfill at once, none of it before `begin()`. `settings` are the ingester's."""
    async with AsyncExitStack() as stack:
        recording = stack.enter_context(Recording.open(path))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-watch-")))
        stage = await stack.enter_async_context(set_stage(Servers()))
        await stage.redis.config_set("maxmemory", MEMORY_LIMIT)  # as in production; the demo has none
        present = replace(recording, frames=_as_of_now(recording.frames, pace))
        network = await stack.enter_async_context(RecordedNetwork(present, pace=pace))
        network.firehose.pause()
        network.faults.serving_repos.clear()
        host = urlsplit(network.url).netloc
        upstream = Upstream(
            relay_hosts=network.websocket_url,
            labeler_hosts=network.websocket_url,
            plc_url=network.url,
            handle_resolver=network.url,
            outbound_allow=host,
        )
        extra = {"ingester": settings or {}}
        wiring = Wiring(stage.redis_url, stage.postgres_url, "bsky", upstream, folder, disposable=True, extra=extra)
        pipeline = await stack.enter_async_context(Pipeline(wiring))
        for number in range(1, INDEXERS + 1):
            await pipeline.start_indexer(number)
        for number in range(1, BACKFILLERS + 1):
            await pipeline.start_backfiller(f"backfiller-{number}")
        await pipeline.start_ingester("all")
        yield Play(pipeline, network, stage)


def _as_of_now(frames: Frames, pace: float) -> Frames:
    """The same frames, each with the time at which it will be sent. It stands outside of what is signed."""
    begin, data = time.time(), b""
    for index, frame in enumerate(frames):
        moment = time.gmtime(begin + index / pace)
        text = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", moment).encode()
        dated = _TIME.sub(rb"\g<1>" + text, frame, count=1)
        data += len(dated).to_bytes(4, "big") + dated
    return Frames(data, 0, len(data))
