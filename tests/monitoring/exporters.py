"""What tells Prometheus of Redis, Postgres and the machine: as in docker-compose.prod.yml, passwords from files."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from sluice.server import Place, Server, free_port, running
from tests.monitoring.tools import tool
from tests.monitoring.watch import is_there, server


@asynccontextmanager
async def exporting(redis_url: str, postgres_url: str) -> AsyncIterator[dict[str, list[str]]]:
    """Job -> host:port."""
    ways = {"redis": _of_redis(redis_url), "postgres": _of_postgres(postgres_url), "node": _of_machine}
    async with AsyncExitStack() as stack:
        urls = {name: await stack.enter_async_context(_running(name, way)) for name, way in ways.items()}
        yield {name: [urlsplit(url).netloc] for name, url in urls.items()}


def _running(name: str, server_at: Any) -> Any:
    return running(f"{name}-exporter", None, server_at, user=None, port=free_port, temporary_in=None)


def _of_redis(url: str) -> Any:
    parts = urlsplit(url)
    address = f"redis://127.0.0.1:{parts.port}"

    def server_at(place: Place) -> Server:
        passwords = place.home / "passwords"
        passwords.write_text(json.dumps({address: parts.password}))
        return server(
            place,
            (
                *(tool("prometheus-redis-exporter"), f"--redis.addr={address}", f"--redis.password-file={passwords}"),
                f"--web.listen-address=127.0.0.1:{place.port}",
            ),
            has_metrics,
        )

    return server_at


def _of_postgres(url: str) -> Any:
    parts = urlsplit(url)

    def server_at(place: Place) -> Server:
        password = place.home / "postgres_password"
        password.write_text(str(parts.password))
        environ = (
            f"DATA_SOURCE_URI=127.0.0.1:{parts.port}{parts.path}?sslmode=disable",
            f"DATA_SOURCE_USER={parts.username}",
            f"DATA_SOURCE_PASS_FILE={password}",
        )
        listens_at = f"--web.listen-address=127.0.0.1:{place.port}"
        return server(place, ("env", *environ, tool("prometheus-postgres-exporter"), listens_at), has_metrics)

    return server_at


def _of_machine(place: Place) -> Server:
    """A container's own disk is an overlay, which the exporter leaves out unless told otherwise."""
    left_out = "--collector.filesystem.fs-types-exclude=^(proc|sysfs|tmpfs)$"
    listens_at = f"--web.listen-address=127.0.0.1:{place.port}"
    return server(place, (tool("prometheus-node-exporter"), left_out, listens_at), has_metrics)


async def has_metrics(url: str) -> bool:
    return await is_there(f"{url}/metrics")
