"""Repos a second from many slow hosts, and the memory of a backfiller: the whole daemon, a network made here.

python -m bench.backfill [--hosts 200] [--repos 1000] [--concurrency 50] [--dead 0.0] [--look-up MS]
python -m bench.backfill --large MB   (one repo of this size instead, made on disk: 1,000 MB take some minutes to make)
Sizes are log-normal (median 40 kB), latencies 20 to 2,000 ms, log-uniform. `--dead` is the share of repos at one host
that takes connections and never answers: they come on top of the others, which alone are counted. All identities are
in the shared cache, as after a first look at each; with --look-up MS the directory is asked, and takes so long.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from redis.asyncio import Redis

from bench.large_repo import write_repo
from bench.machine import load, peak_rss_mb
from bench.unpack import made
from common.did_documents import did_key
from common.events import RepoJob, encode_event
from common.redis_connection import open_redis
from sluice.server import free_port
from sluice.stack import embedded_redis
from tests.signed_repos import DID, Signer, repo

MEDIAN_RECORDS, SPREAD = 120, 1.2
SIGNER = Signer()


@dataclass
class World:
    """Repos by DID, hosts by number: one server answers for all of them, each at a port of its own."""

    repos: dict[str, bytes | Path]
    latency: list[float]
    dead: set[str]
    directory_seconds: float = 0.0
    ports: list[int] = field(default_factory=list)
    plc: int = 0

    def host_of(self, did: str) -> int:
        return 0 if did in self.dead else 1 + sum(did.encode()) % (len(self.latency) - 1)

    async def get_repo(self, request: web.Request) -> web.StreamResponse:
        did = request.query["did"]
        host = self.host_of(did)
        if did in self.dead:
            await asyncio.Event().wait()
        await asyncio.sleep(self.latency[host])
        car = self.repos[did]
        if isinstance(car, Path):
            return web.FileResponse(car)
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(car), 1 << 18):
            await response.write(car[start : start + (1 << 18)])
        return response

    def size_of(self, did: str) -> int:
        car = self.repos[did]
        return car.stat().st_size if isinstance(car, Path) else len(car)

    async def get_document(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.directory_seconds)
        did = request.match_info["did"]
        endpoint = f"http://127.0.0.1:{self.ports[self.host_of(did)]}"
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": endpoint}
        key = did_key(SIGNER.public).removeprefix("did:key:")
        method = {"id": f"{did}#atproto", "type": "Multikey", "controller": did, "publicKeyMultibase": key}
        return web.json_response({"id": did, "verificationMethod": [method], "service": [service]})


def large_world(megabytes: int, folder: Path) -> World:
    write_repo(folder / "repo.car", megabytes, SIGNER, DID)
    return World({DID: folder / "repo.car"}, [0.02, 0.02], set())


def world(arguments: argparse.Namespace) -> World:
    chance = random.Random(1)
    count, hosts = arguments.repos, arguments.hosts
    dead = int(count * arguments.dead / (1 - arguments.dead))
    repos: dict[str, bytes | Path] = {}
    for number in range(count + dead):
        did = "did:plc:" + "".join(chance.choices("abcdefghijklmnopqrstuvwxyz234567", k=24))
        size = max(1, int(MEDIAN_RECORDS * chance.lognormvariate(0, SPREAD)))
        size = 1 if number >= count else size  # at the dead host, where nobody will see it
        repos[did] = repo(dict(made(chance, number) for number in range(size)), SIGNER, did=did)
    latency = [0.02 * 100 ** chance.random() for _ in range(hosts + 1)]
    return World(repos, latency, set(list(repos)[count:]), (arguments.look_up or 0) / 1000)


@asynccontextmanager
async def served(here: World) -> AsyncIterator[World]:
    app = web.Application()
    app.router.add_get("/xrpc/com.atproto.sync.getRepo", here.get_repo)
    app.router.add_get("/{did}", here.get_document)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    for _ in range(len(here.latency) + 1):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    here.plc, *here.ports = (address[1] for address in runner.addresses)
    try:
        yield here
    finally:
        await runner.cleanup()


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        await measure(large_world(arguments.large, Path(folder)) if arguments.large else world(arguments), arguments)


async def measure(here: World, arguments: argparse.Namespace) -> None:
    total = sum(map(here.size_of, here.repos))
    good = [did for did in here.repos if did not in here.dead]
    print(f"{len(here.repos):,} repos, {total / 1e6:.0f} MB, {len(here.dead):,} of them at a dead host; {load()}")
    async with served(here), embedded_redis() as url, open_redis(url) as redis:
        for did in random.Random(2).sample(list(here.repos), len(here.repos)):
            await redis.xadd("repo_backfill", {"repo": encode_event(RepoJob(did=did))})
            if arguments.look_up is None:
                await redis.set(f"did:key:{did}", did_key(SIGNER.public))
                await redis.set(f"did:pds:{did}", f"http://127.0.0.1:{here.ports[here.host_of(did)]}")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "backfiller"), env={**os.environ, **environment(here, url, arguments)}
        )
        try:
            started = time.monotonic()
            drain = asyncio.create_task(drained(redis))
            while await done(redis) < len(good):
                await asyncio.sleep(0.05)
            seconds = time.monotonic() - started
            memory = peak_rss_mb(process.pid)
            drain.cancel()
        finally:
            process.terminate()
            await process.wait()
    rates = f"{len(good) / seconds:.1f} repos/s, {sum(map(here.size_of, good)) / seconds / 1e6:.1f} MB/s"
    print(f"{seconds:.1f} s: {rates}; {memory:.0f} MB at most")
    print(load())


def environment(here: World, url: str, arguments: argparse.Namespace) -> Mapping[str, str]:
    ports = [here.plc, *here.ports]
    return {
        "BACKFILLER_CONSUMER": "bench",
        "REDIS_URL": url,
        "PLC_URL": f"http://127.0.0.1:{here.plc}",
        "OUTBOUND_ALLOW": ",".join(f"127.0.0.1:{port}" for port in ports),
        "BACKFILLER_CONCURRENCY": str(arguments.concurrency),
        "BACKFILLER_METRICS_PORT": str(free_port()),
        "BACKFILLER_HTTP_TIMEOUT_SECS": "20",
        "LOG_LEVEL": "ERROR",
    }


async def done(redis: Redis) -> int:
    return int(await redis.hget("repo_backfill:outcomes", "done") or 0)


async def drained(redis: Redis) -> None:
    """Instead of an indexer: what is on the output goes, so that it never fills."""
    while True:
        if await redis.xlen("firehose_backfill") > 100_000:
            await redis.delete("firehose_backfill")
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--repos", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--dead", type=float, default=0.0)
    parser.add_argument("--look-up", type=float)
    parser.add_argument("--large", type=int, default=0)
    asyncio.run(main(parser.parse_args()))
