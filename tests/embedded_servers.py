"""What tests of the embedded servers ask: which processes they are, and what they leave in a folder."""

import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.redis_connection import open_redis
from tests.databases import connected


@contextmanager
def open_folder() -> Iterator[Path]:
    """An empty folder that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def modes_in(folder: Path) -> dict[Path, int]:
    return {path: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


async def server_pids(redis_url: str, postgres_url: str) -> list[int]:
    async with open_redis(redis_url) as client, connected(postgres_url) as connection:
        pid_file = await connection.fetchval("SELECT pg_read_file('postmaster.pid')")
        return [int((await client.info("server"))["process_id"]), int(pid_file.split()[0])]
